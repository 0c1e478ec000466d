"""Runs side by side on one page: their losses as curves, what differs between their recipes, their samples.

Read next: lab/plot.py, train/run.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from cutaway.lab.page import Section, page
from cutaway.lab.plot import Axis, Line, beside, legend, plot

POINTS = 400  # of a curve; more than there are pixels would show nothing

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is known of a run: its name, the recipe's fields flat, its figures, its last sample and the one from before
    the first step."""

    name: str
    fields: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    sample: str = ""
    before: str = ""

    def curve(self, over: str, figure: str) -> list[tuple[float, float]]:
        """(x, y) of each line that has both, both finite."""
        points = [(line[over], line[figure]) for line in self.lines if over in line and figure in line]
        return [(float(x), float(y)) for x, y in points if _number(x) and _number(y)]

    def last(self, figure: str) -> float | None:
        """The figure of the last line that has it."""
        return next((line[figure] for line in reversed(self.lines) if _number(line.get(figure))), None)

    def best(self, figure: str) -> float | None:
        return min((line[figure] for line in self.lines if _number(line.get(figure))), default=None)


def runs_page(runs: Sequence[Told]) -> str:
    """The whole page; it needs nothing from elsewhere."""
    sections = [
        Section(
            title=title,
            body=legend([run.name for run in runs])
            + beside([curves(runs, over, figure) for over in ("step", "seconds")]),
            note="Over steps, and over seconds. The loss is drawn on a log scale."
            + (" Of a long run each point is the mean of a stretch." if figure == "loss" else ""),
        )
        for title, figure in (("Validation loss", "val_loss"), ("Training loss", "loss"))
        if any(run.curve("step", figure) for run in runs)
    ]
    table = f'<div class="panel"><table>{_rows(runs)}</table></div>'
    sections.append(Section(title="What they were", body=table, note=_note(runs)))
    shown = "".join(_written(run) for run in runs)
    if shown:
        sections.append(Section(title="What they write", body=shown))
    return page("Training runs", [f"{len(runs)} run{'s' * (len(runs) != 1)}, as their folders tell."], sections)


def _written(run: Told) -> str:
    texts = (("before the first step", run.before), ("at the last evaluation", run.sample))
    shown = [
        f'<p class="question">{escape(run.name)}, {when}</p><p class="answer mono">{escape(text)}</p>'
        for when, text in texts
        if text
    ]
    return beside(shown) if shown else ""


def differing(runs: Sequence[Told]) -> list[str]:
    """The fields in which the recipes are not all alike, in order."""
    names = dict.fromkeys(name for run in runs for name in run.fields)
    return [name for name in names if len({repr(run.fields.get(name)) for run in runs}) > 1]


def flat(value: Any, where: str = "") -> dict[str, Any]:
    """The leaves of a plain value by their dotted places."""
    if isinstance(value, Mapping):
        inner = ((f"{where}.{name}" if where else str(name), one) for name, one in value.items())
    elif isinstance(value, (list, tuple)) and value:
        inner = ((f"{where}.{at}", one) for at, one in enumerate(value))
    else:
        return {where: value}
    return {name: leaf for place, one in inner for name, leaf in flat(one, place).items()}


def curves(runs: Sequence[Told], over: str, figure: str) -> str:
    """A figure of all runs over steps or seconds, on a log scale where it is nowhere 0 or below."""
    lines = [Line(name=run.name, points=thinned(run.curve(over, figure)), place=at) for at, run in enumerate(runs)]
    log = all(y > 0 for line in lines for _, y in line.points)
    written = "{:,.10g}".format  # a million steps are no "1e+06"
    return plot(lines, Axis(title=over, written=written), Axis(title="", log=log))


def thinned(curve: Curve) -> list[tuple[float, float]]:
    """At most `POINTS` points, each the mean of as many."""
    if len(curve) <= POINTS:
        return list(curve)
    edges = [len(curve) * at // POINTS for at in range(POINTS + 1)]
    pieces = [curve[first:last] for first, last in pairwise(edges)]
    return [(sum(x for x, _ in piece) / len(piece), sum(y for _, y in piece) / len(piece)) for piece in pieces]


def _rows(runs: Sequence[Told]) -> str:
    def row(title: str, cells: Sequence[Any]) -> str:
        return f"<tr><th>{escape(title)}</th>{''.join(f'<td>{escape(_said(cell))}</td>' for cell in cells)}</tr>"

    figures = (
        ("steps", [run.last("step") for run in runs]),
        ("seconds", [run.last("seconds") for run in runs]),
        ("loss", [run.last("loss") for run in runs]),
        ("best validation loss", [run.best("val_loss") for run in runs]),
        ("share of written words that the corpus has", [run.last("word_share") for run in runs]),
        ("tokens/s", [run.last("tokens_per_second") for run in runs]),
    )
    lines = [
        row("run", [run.name for run in runs]),
        *(row(name, cells) for name, cells in figures if any(cell is not None for cell in cells)),
    ]
    return "".join(lines + [row(name, [run.fields.get(name) for run in runs]) for name in differing(runs)])


def _note(runs: Sequence[Told]) -> str:
    if len(runs) < 2:
        return ""
    return "Of the recipes, what is not alike." if differing(runs) else "Their recipes are alike."


def _said(cell: Any) -> str:
    return "–" if cell is None else f"{cell:,.4g}" if isinstance(cell, float) else str(cell)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
