"""A comparison: parts of one kind beside each other, as a value that says what there is to measure and shows it.

A new kind is a frozen value with `cells`, `tables` and `page`, a line in lab/compare/kinds.py, and a command beside
those in cli/compare.
Read next: lab/compare/attention.py (a kind), lab/compare/folder.py (what measures one)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

from cutaway.base.errors import BadInput
from cutaway.lab.page import Section
from cutaway.ops.choice import choose_attend

JSON = bool | int | float | str | None | Sequence[Any] | Mapping[str, Any]
Figures = dict[str, JSON]
Measured = Mapping[str, Figures]  # what has been measured so far, by the keys of the cells; some may be missing


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to measure, independent of all others. `key`: its name in the folder, unlike any other's; `about`: for
    a person who waits; `seconds`: about how long it takes on two cores; `measure`: figures for JSON, the same ones each
    time but for times."""

    key: str
    about: str
    seconds: float
    measure: Callable[[], Figures]

    def __post_init__(self) -> None:
        if not self.key or self.seconds < 0:
            raise BadInput("a cell has a key, and takes no less than 0 seconds", field="Cell")


@dataclass(frozen=True, kw_only=True)
class Table:
    """What was measured, in words. The first `words` columns are read from the left, the others, numbers, from the
    right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: int = 1

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise BadInput(f"a row is not as wide as the {len(self.columns)} columns", field="Table.rows")

    def section(self) -> Section:
        """The table on a page."""

        def line(tag: str, cells: Sequence[str]) -> str:
            right = ' style="text-align:right"'
            written = (
                f"<{tag}{'' if place < self.words else right}>{escape(cell)}</{tag}>"
                for place, cell in enumerate(cells)
            )
            return f"<tr>{''.join(written)}</tr>"

        rows = "".join([line("th", self.columns), *(line("td", row) for row in self.rows)])
        return Section(title=self.title, body=f'<div class="panel"><table>{rows}</table></div>', note=self.note)

    def markdown(self) -> str:
        """The table in a document."""
        bars = ["---" if place < self.words else "---:" for place in range(len(self.columns))]
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.columns, bars, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, *(["", self.note] if self.note else [])]) + "\n"


def attention_in_words(attend: str | None) -> str:
    """Which form of attention (ops/choice.py) a comparison runs, as its page says it."""
    return f"Attention runs as {choose_attend(attend).name}."


class Comparison(Protocol):
    """A frozen dataclass of plain fields, written down by base/values.py. All randomness comes from its `seed`."""

    @property
    def seed(self) -> int: ...

    def cells(self) -> tuple[Cell, ...]:
        """What there is to measure, in a fixed order. Cheap: nothing is built before a cell is measured."""
        ...

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        """For a terminal. A cell that is missing in `measured`, or a figure that is None, leaves its place empty."""
        ...

    def page(self, measured: Measured) -> str:
        """One self-contained HTML page (lab/page.py)."""
        ...
