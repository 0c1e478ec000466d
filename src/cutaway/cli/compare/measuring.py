"""What the commands that compare share: how much there is to do, how far it is, what came out.

Read next: lab/compare/folder.py
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.base.load import busy
from cutaway.base.paths import atomic, expand
from cutaway.cli.console import Column, messages, say, show_json, show_table
from cutaway.cli.machine import hardware
from cutaway.cli.panel import duration

if TYPE_CHECKING:
    from cutaway.lab.compare.comparison import Cell, Comparison, Figures, Table
    from cutaway.lab.compare.folder import Folder

COMPARISONS = Path("comparisons")  # where those go that were given no folder
EVERY = 15.0  # seconds between two lines where nobody watches
HELP = {"help_option_names": ["-h", "--help"]}

Run = Annotated[
    Path | None, typer.Option("--run", metavar="FOLDER", help="Where it is kept (comparisons/KIND if not told).")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE.md", dir_okay=False, help="Also write the tables here, and the page beside."),
]
AsJson = Annotated[bool, typer.Option("--json", help="All figures as JSON.")]


def words(text: str, source: str) -> tuple[str, ...]:
    """Names with commas between. Raises BadInput naming the option where there is none, or an empty one."""
    found = tuple(word.strip() for word in text.split(","))
    if not all(found):
        raise BadInput("names stand with commas between", source=source)
    return found


def tokens(text: str, source: str) -> tuple[int, ...]:
    """Numbers with commas between; 2k is 2,048. Raises BadInput naming the option."""
    found = []
    for word in words(text, source):
        number, thousand = word.lower().removesuffix("k"), word.lower().endswith("k")
        if not number.isdecimal() or len(number) > 9 or int(number) < 1:
            raise BadInput(f'"{word}" is no number of tokens, such as 512 or 2k', source=source)
        found.append(int(number) * (1024 if thousand else 1))
    return tuple(found)


def compare(
    kind: str,
    comparison: Comparison,
    folder: Path | None,
    *,
    out: Path | None,
    as_json: bool,
    timed: bool = False,
) -> None:
    """Measure what is missing in the folder of a comparison, then show its tables. `out` gets them as Markdown, and the
    page beside it. `timed`: the figures are times, which a busy machine spoils."""
    from cutaway.lab.compare.folder import PAGE, Folder, measured

    here = hardware()
    opened = Folder.begin(expand(folder or COMPARISONS / kind), comparison, hardware=here)
    missing = opened.missing(comparison)
    _say_what_is_to_do(opened, comparison, missing, here)
    if timed and missing and busy():
        say("this machine is busy with other work: times will come out too long, and cannot be compared")
    figures: dict[str, Figures] = {}
    try:
        with _watched(missing) as done:
            for cell, found, fresh in measured(comparison, opened):
                figures[cell.key] = found
                if fresh:
                    done()
    except KeyboardInterrupt:
        say(f"interrupted: {_cells(len(opened.missing(comparison)))} left; the same command goes on from here")
        raise
    tables, page = comparison.tables(figures), opened.path / PAGE
    if out is not None:
        _write(expand(out), kind, opened, tables, page)
    if as_json:
        show_json({"comparison": opened.card["comparison"], "cells": figures})
    else:
        for table in tables:
            show(table)
    say(f"the page: {page}")


def _say_what_is_to_do(folder: Folder, comparison: Comparison, missing: Sequence[Cell], here: dict[str, Any]) -> None:
    total = len(comparison.cells())
    if not missing:
        say(f"all {total} cells are there already, in {folder.path}")
        return
    seconds = duration(sum(cell.seconds for cell in missing))
    there = f"; {total - len(missing)} of {total} are there already" if len(missing) < total else ""
    say(f"{_cells(len(missing))} to measure, about {seconds} on two free cores{there}")
    other = folder.elsewhere(here) if there else None
    if other is not None:
        say(f"those were measured elsewhere: {other} is not the same here")


def _asked(arguments: Sequence[str]) -> list[str]:
    """What was typed, without where it is written to."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("--run", "--out"):
            next(words, None)
        elif not word.startswith(("--run=", "--out=")):
            kept.append(word)
    return kept


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


@contextmanager
def _watched(missing: Sequence[Cell]) -> Iterator[Any]:
    """Yield `done()`, to be called behind each cell: a bar by their seconds, or now and then a line."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console, place, last = messages(), 0, time.perf_counter()
    total = sum(cell.seconds for cell in missing)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeRemainingColumn())
    hidden = not console.is_terminal or not missing
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(_next(missing, 0), total=total, count=f"0/{len(missing)}")

        def done() -> None:
            nonlocal place, last
            seconds, place = missing[place].seconds, place + 1
            bar.update(task, advance=seconds, description=_next(missing, place), count=f"{place}/{len(missing)}")
            if not console.is_terminal and time.perf_counter() - last > EVERY:
                say(f"{place} of {len(missing)} cells measured; {_next(missing, place)}")
                last = time.perf_counter()

        yield done


def _next(missing: Sequence[Cell], place: int) -> str:
    return missing[place].about if place < len(missing) else "the page"


def show(table: Table) -> None:
    """A table on stdout; its title and note on stderr."""
    say(f"\n{table.title}")
    columns = [
        Column(title=title, align="left" if place < table.words else "right")
        for place, title in enumerate(table.columns)
    ]
    show_table(columns, table.rows)
    if table.note:
        say(table.note)


def _write(path: Path, kind: str, folder: Folder, tables: Sequence[Table], page: Path) -> None:
    """The tables as Markdown with what they were measured by and on, and the page beside it."""
    versions = ", ".join(f"{name} {number}" for name, number in folder.card["versions"].items())
    command = shlex.join(["cutaway", *_asked(sys.argv[1:])])
    machine = f"{folder.card['hardware'].get('processor')}, {folder.card['hardware'].get('cores')} cores"
    head = f"# {kind.capitalize()} compared, {date.today()}\n\n`{command}`; {machine}; {versions}.\n\n"
    with atomic(path) as partial:
        partial.write_text(head + "\n".join(table.markdown() for table in tables), encoding="utf-8")
    with atomic(path.with_suffix(".html")) as partial:
        partial.write_bytes(page.read_bytes())
