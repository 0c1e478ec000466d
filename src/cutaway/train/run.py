"""A run as a folder: what was asked for, what came of it step by step, and from where it can go on.

    run.json   metrics.jsonl   samples/   checkpoints/   tokenizer.json ...   and, once it has ended, a model to open
Killed at any moment, it goes on from its last whole checkpoint: figures written after that are dropped, the steps made
again.   Read next: train/checkpoints.py, train/metrics.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from cutaway.base.errors import BadInput, CutawayError
from cutaway.base.paths import atomic
from cutaway.base.values import difference, from_plain, to_plain
from cutaway.base.versions import read_card, versions
from cutaway.train.checkpoints import Checkpoints
from cutaway.train.metrics import Line, Metrics

FORMAT = 1
CARD, FIGURES, SAMPLES, CHECKPOINTS, LOCK = "run.json", "metrics.jsonl", "samples", "checkpoints", ".lock"


class Run:
    """A run's folder. Made by `create` or `open`; `recipe` is the plain form of the recipe that it was made with."""

    def __init__(self, folder: Path, card: dict[str, Any]):
        self.folder, self.card = folder, card
        self.metrics = Metrics(folder / FIGURES)
        self.checkpoints = Checkpoints(folder / CHECKPOINTS)

    @classmethod
    def create(cls, folder: str | Path, name: str, recipe: Any, *, hardware: Mapping[str, Any] | None = None) -> Run:
        """A new run of the value `recipe`, known as `name`. Raises BadInput for a folder that holds something."""
        folder = Path(folder).absolute()
        if (folder / CARD).exists():
            raise BadInput(f"holds a run already: go on with --resume {folder}, or name another --run", source=folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInput("is not empty: a run needs a folder of its own", source=folder)
        card = {
            "format": FORMAT,
            "name": name,
            "seed": getattr(recipe, "seed", None),
            "recipe": to_plain(recipe),
            "versions": versions(),
            "hardware": dict(hardware or {}),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        run = cls(folder, card)
        with run.writing(), atomic(folder / CARD) as partial:
            partial.write_text(json.dumps(card, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in a folder. Raises BadInput where there is none, or one that a later version wrote."""
        folder = Path(folder).absolute()
        return cls(folder, read_card(folder, CARD, what="run", field="recipe", latest=FORMAT))

    @property
    def name(self) -> str:
        return str(self.card.get("name", ""))

    def recipe(self, table: Mapping[str, type]) -> Any:
        """The recipe as a value. Raises BadInput, naming run.json and the field, for one that does not fit."""
        return from_plain(self.card["recipe"], table, source=self.folder / CARD)

    def discard(self) -> bool:
        """Removes the folder of a run that has learned nothing yet; whether it did."""
        if self.metrics.path.exists() or self.checkpoints.steps():
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """While this lasts, no other process can train in the folder. Raises BadInput where one does."""
        lock = FileLock(self.folder / LOCK, timeout=0)
        with self.writing():
            try:
                lock.acquire()
            except Timeout:
                raise BadInput("another process is training this run", source=self.folder) from None
        try:
            yield
        finally:
            lock.release()

    def record(self, line: Line) -> None:
        """Adds one step's figures to metrics.jsonl."""
        with self.writing():
            self.metrics.append(line)

    def save(self, step: int, state: dict[str, Any], score: float | None = None) -> None:
        """Writes a checkpoint of the state after `step`."""
        with self.writing():
            self.checkpoints.save(step, {**state, "recipe": self.card["recipe"]}, score)

    def resume(self, say: Callable[[str], None]) -> tuple[int, dict[str, Any]] | None:
        """The last whole checkpoint, as (step, state), or None; figures behind it are dropped from metrics.jsonl.

        Raises BadInput, naming the field, if run.json asks for something else than the checkpoint was made with.
        """
        self.checkpoints.clear()
        found = self.checkpoints.latest(say)
        if found is not None:
            kept = found[1].pop("recipe", None)
            changed = difference(kept, self.card["recipe"])
            if changed is not None:
                message = "is not what the run was begun with: a run goes on with its own recipe, or starts anew"
                raise BadInput(message, source=self.folder / CARD, field=f"recipe{changed and '.'}{changed}")
        with self.writing():
            self.metrics.truncate(found[0] if found else 0)
        return found

    def sample(self, name: str, text: str) -> Path:
        """Writes samples/`name`.txt."""
        path = self.folder / SAMPLES / f"{name}.txt"
        with self.writing(), atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")
        return path

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A full disk or a folder that cannot be written becomes one clear line, which says what is safe."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            steps = self.checkpoints.steps()
            safe = f"; the checkpoint of step {steps[-1]} is whole" if steps else ""
            told = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            raise CutawayError(f"{self.folder}: cannot be written: {told}{safe}") from error
