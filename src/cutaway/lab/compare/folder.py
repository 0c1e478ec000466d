"""A comparison as a folder: what is compared, a line for each cell that has been measured, and a page at the end.

    comparison.json   cells.jsonl   page.html
Stopped at any moment, the same comparison goes on with the cells that are missing. Once it is whole its lines stand in
the order of its cells, so that two folders differ line by line where their figures do.
Read next: lab/compare/comparison.py, train/run.py (the same for training)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cutaway.base.errors import BadInput, CutawayError
from cutaway.base.paths import atomic
from cutaway.base.values import difference, from_plain, to_plain
from cutaway.base.versions import read_card, versions
from cutaway.lab.compare.comparison import Cell, Comparison, Figures

FORMAT = 1
CARD, CELLS, PAGE, LOCK = "comparison.json", "cells.jsonl", "page.html", ".lock"


class Folder:
    """Made by `begin` or `open`. `card`: what comparison.json holds."""

    def __init__(self, path: Path, card: dict[str, Any]):
        self.path, self.card = path, card

    @classmethod
    def begin(cls, path: str | Path, comparison: Comparison, *, hardware: Mapping[str, Any] | None = None) -> Folder:
        """The folder of this comparison, new or to go on with.

        Raises BadInput, naming the folder and the first field that differs, where figures of another one are in it, and
        for a folder that holds something else.
        """
        path, plain = Path(path).absolute(), to_plain(comparison)
        if (path / CARD).exists():
            folder = cls.open(path)
            held = _filled(folder.card["comparison"], comparison)
            changed = difference(held, plain)
            if changed is None:
                return folder
            if folder.figures():
                told = (_inner(one, changed) for one in (held, plain))
                said = "is {} in what the folder holds, and {} here: name another --run"
                raise BadInput(said.format(*told), source=path, field=changed)
        elif path.exists() and (not path.is_dir() or any(one.name != LOCK for one in path.iterdir())):
            raise BadInput("is not empty: a comparison needs a folder of its own", source=path)
        card = {
            "format": FORMAT,
            "comparison": plain,
            "seed": comparison.seed,
            "versions": versions(),
            "hardware": dict(hardware or {}),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        folder = cls(path, card)
        folder.write(CARD, json.dumps(card, ensure_ascii=False, indent=2) + "\n")
        return folder

    @classmethod
    def open(cls, path: str | Path) -> Folder:
        """The comparison in a folder. Raises BadInput where there is none, or one that a later version wrote."""
        path = Path(path).absolute()
        return cls(path, read_card(path, CARD, what="comparison", field="comparison", latest=FORMAT))

    def comparison(self, table: Mapping[str, type]) -> Any:
        """The comparison as a value. Raises BadInput, naming comparison.json and the field, where it does not fit."""
        return from_plain(self.card["comparison"], table, source=self.path / CARD)

    def elsewhere(self, hardware: Mapping[str, Any]) -> str | None:
        """What is not as it was when the folder was begun: the first of the versions and the hardware that differs."""
        now = {"versions": versions(), "hardware": dict(hardware)}
        return difference({name: self.card.get(name) for name in now}, now)

    def figures(self) -> dict[str, Figures]:
        """What has been measured, by the keys of the cells. A torn last line is passed over.

        Raises BadInput naming a line, other than the last, that is no cell.
        """
        place = self.path / CELLS
        *whole, rest = place.read_bytes().split(b"\n") if place.exists() else [b""]
        found: dict[str, Figures] = {}
        for number, line in enumerate(whole, start=1):
            cell = _parsed(line)
            if cell is not None:
                found[cell["cell"]] = cell["figures"]
            elif number < len(whole) or rest:
                raise BadInput("is no measured cell", source=place, field=f"line {number}")
        return found

    def missing(self, comparison: Comparison) -> list[Cell]:
        """The cells that are yet to be measured."""
        there = self.figures()
        return [cell for cell in _checked(comparison) if cell.key not in there]

    def append(self, cell: Cell, figures: Figures) -> Figures:
        """Adds a line, handed to the system at once; returns the figures as they will be read back."""
        line = _line(cell.key, figures)
        try:
            with (self.path / CELLS).open("a", encoding="utf-8", newline="\n") as file:
                file.write(line)
        except OSError as error:
            raise self._unwritten(error) from error
        return json.loads(line)["figures"]

    def write(self, name: str, text: str) -> None:
        """One of the folder's files, as a whole."""
        try:
            with atomic(self.path / name) as partial:
                partial.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> CutawayError:
        said = "cannot be written, what was measured before is safe"
        return CutawayError(f"{self.path}: {said}: {error.strerror or error}")


def measured(comparison: Comparison, folder: Folder) -> Iterator[tuple[Cell, Figures, bool]]:
    """Each cell of the comparison with its figures, and whether they were measured just now; at the end the folder has
    its lines in order and its page. Whoever leaves before has lost one cell at most.

    Raises BadInput where another process measures in the folder.
    """
    cells = _checked(comparison)
    lock = FileLock(folder.path / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BadInput("another process is measuring in it", source=folder.path) from None
    try:
        found = folder.figures()
        # Without a torn last line, to which the next one would be joined.
        folder.write(CELLS, "".join(_line(key, figures) for key, figures in found.items()))
        for cell in cells:
            fresh = cell.key not in found
            if fresh:
                found[cell.key] = folder.append(cell, cell.measure())
            yield cell, found[cell.key], fresh
        ordered = {cell.key: found[cell.key] for cell in cells}
        folder.write(CELLS, "".join(_line(key, figures) for key, figures in ordered.items()))
        folder.write(PAGE, comparison.page(ordered))
    finally:
        lock.release()


def _checked(comparison: Comparison) -> tuple[Cell, ...]:
    cells = comparison.cells()
    keys = [cell.key for cell in cells]
    twice = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
    if twice is not None:
        raise BadInput(f'two cells are called "{twice}"', field=type(comparison).__name__)
    return cells


def _line(key: str, figures: Figures) -> str:
    return json.dumps({"cell": key, "figures": _finite(figures)}, ensure_ascii=False, allow_nan=False) + "\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        cell = json.loads(line)
    except ValueError:
        return None
    sound = isinstance(cell, dict) and isinstance(cell.get("cell"), str) and isinstance(cell.get("figures"), dict)
    return cell if sound else None


def _finite(value: Any) -> Any:
    """What is not finite becomes null: JSON has no word for it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value


def _filled(held: dict[str, Any], comparison: Comparison) -> dict[str, Any]:
    """A plain value from a folder with the fields that its classes did not have yet when it was written."""
    try:
        return to_plain(from_plain(held, {one.__name__: one for one in _classes(comparison)}))
    except BadInput:  # of another kind, or of another make
        return held


def _classes(value: Any) -> Iterator[type]:
    """Those of a value and of the values in it."""
    if isinstance(value, tuple):
        for one in value:
            yield from _classes(one)
    elif is_dataclass(value):
        yield type(value)
        for field in fields(value):
            yield from _classes(getattr(value, field.name))


def _inner(plain: Any, place: str) -> str:
    """What stands at a dotted place of a plain value, for a person."""
    for name in filter(None, place.split(".")):
        plain = plain.get(name) if isinstance(plain, dict) else plain[int(name)]
    return "nothing" if plain is None else json.dumps(plain, ensure_ascii=False)
