"""What reaches a person: results on stdout, everything else on stderr, by display width, plain when nobody watches.

rich does the colours and the widths (a Chinese character is two columns wide) and honours NO_COLOR. Where stdout is a
pipe or a file, a table is plain aligned text, never wrapped or cut.

Read next: cli/main.py
"""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rich.console import Console

UNBOUNDED = 1 << 20  # columns, where nothing may wrap


class Quiet(Console):
    """A console that leaves a closed pipe (`cutaway models | head -1`) to `main`."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table; numbers are read best from the right, names and words must stay whole."""

    title: str
    align: Literal["left", "right"] = "left"
    wrap: bool = False


def prepare() -> None:
    """Make stdout and stderr able to carry any character, whatever the locale (C, cp1252), and stdin able to read it.

    An encoding that the user asked for by PYTHONIOENCODING is kept; what it cannot say is then replaced.
    """
    chosen = "PYTHONIOENCODING" in os.environ
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if chosen else "utf-8", errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper) and not chosen:
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")


def results() -> Console:
    """The console for what was asked for. Made anew each time, so that a redirected stdout is followed."""
    return Quiet(highlight=False, emoji=False)


def messages() -> Console:
    """The console for progress, remarks and errors."""
    return Quiet(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """One remark on stderr, never mixed into results."""
    messages().print(safe(text), style="dim", markup=False, soft_wrap=True)


def complain(text: str) -> None:
    """One line on stderr that says what is wrong."""
    line = " ".join(safe(text).split())
    console = messages()
    console.print("error:", style="bold red", end=" ", soft_wrap=True)
    console.print(line, markup=False, soft_wrap=True)


def show_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """A table on stdout: ruled and fitted to the terminal, or plain and unwrapped in a pipe."""
    console = results()
    if console.is_terminal:
        rows = list(rows)
        table = _table(columns, rows, title, box="SIMPLE_HEAD")
        if console.measure(table, options=console.options.update(width=UNBOUNDED)).minimum > console.width:
            # What must stay whole does not fit: broken over lines it is all there, while rich would cut it off.
            table = _table([replace(column, wrap=True) for column in columns], rows, title, box="SIMPLE_HEAD")
        console.print(table)
        return
    # Drawn aside first: rich fills every line with spaces up to the end of the last column.
    aside = Console(file=io.StringIO(), width=UNBOUNDED, highlight=False, emoji=False, color_system=None)
    with aside.capture() as capture:
        aside.print(_table(columns, rows, None, box=None))
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _table(columns: Sequence[Column], rows: Iterable[Sequence[str]], title: str | None, box: str | None) -> Any:
    from rich import box as boxes
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=getattr(boxes, box) if box else None, pad_edge=False)
    for column in columns:
        table.add_column(column.title, justify=column.align, no_wrap=not column.wrap, overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    return table


def show_json(value: Any) -> None:
    """A JSON value on stdout, with other scripts' characters as they are."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def safe(text: str) -> str:
    """`text` without the control characters (ESC and the like) by which a file or model could take over a terminal."""
    return "".join(character for character in text if character in "\n\t" or unicodedata.category(character) != "Cc")


def write(text: str) -> None:
    """Write `text` to stdout as it comes, at once; harmless on a terminal, character for character in a pipe."""
    sys.stdout.write(safe(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def megabytes(count: int) -> str:
    """Bytes as a person reads them: 98 MB (decimal, as disks and networks count)."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 10 * size else f"{count / size:.0f} {unit}"
    return f"{count} B"


def millions(count: int) -> str:
    """A number of parameters as a person reads it: 135M, 1.5B."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.1f}{unit}" if count < 10 * size else f"{count / size:.0f}{unit}"
    return str(count)
