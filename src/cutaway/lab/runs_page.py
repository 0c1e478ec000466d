"""Runs side by side on one page: their losses as curves, what differs between their recipes, their samples.

Read next: lab/page.py, train/run.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from cutaway.lab.page import Section, page
from cutaway.lab.plot import BESIDE, COLOURS, ticks

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 520, 300, 46, 20, 44, 10  # of a plot, and of the room around its curves
POINTS = 400  # of a curve; more than there are pixels would show nothing
FEW = 40  # points of a curve are drawn as dots too: a lone one would not be seen

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
            title="Validation loss" if over == "val" else "Training loss",
            body=_legend(runs) + _beside(runs, figure),
            note="Over steps, and over seconds. The loss is drawn on a log scale."
            + ("" if over == "val" else " Of a long run each point is the mean of a stretch."),
        )
        for over, figure in (("val", "val_loss"), ("train", "loss"))
        if any(run.curve("step", figure) for run in runs)
    ]
    table = f'<div class="panel"><table>{_rows(runs)}</table></div>'
    sections.append(Section(title="What they were", body=table, note=_note(runs)))
    shown = "".join(_written(run) for run in runs)
    if shown:
        sections.append(Section(title="What they write", body=shown))
    return page("Training runs", [f"{len(runs)} run{'s' * (len(runs) != 1)}, as their folders tell."], sections)


def _beside(runs: Sequence[Told], figure: str) -> str:
    panels = (f'<div class="panel">{plot(_curves(runs, over, figure), over)}</div>' for over in ("step", "seconds"))
    return f'<div style="{BESIDE}">{"".join(panels)}</div>'


def _written(run: Told) -> str:
    texts = (("before the first step", run.before), ("at the last evaluation", run.sample))
    return "".join(
        f'<div class="panel"><p class="question">{escape(run.name)}, {when}</p>'
        f'<p class="answer mono">{escape(text)}</p></div>'
        for when, text in texts
        if text
    )


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


def plot(curves: Sequence[Curve], axis: str) -> str:
    """Curves as inline SVG: x from 0, y on a log scale that fits them."""
    sound = [(place, thinned(curve)) for place, curve in enumerate(curves) if curve]
    every = [point for _, curve in sound for point in curve]
    if not every:
        return ""
    right = max(x for x, _ in every) or 1.0
    low, high = min(y for _, y in every), max(y for _, y in every)
    low, high = (low, high) if high > low else (low - 0.5 * abs(low) - 1e-9, high + 0.5 * abs(high) + 1e-9)
    scale = math.log if low > 0 else (lambda y: y)

    def place(x: float, y: float) -> str:
        down = (scale(high) - scale(y)) / (scale(high) - scale(low))
        return f"{LEFT + x / right * (WIDTH - LEFT - RIGHT):.1f},{TOP + down * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = []
    for tick in ticks(low, high):
        _, y = place(0, tick).split(",")
        parts.append(f'<path class="frame" d="M{LEFT},{y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="faint" x="0" y="{y}" dy=".35em">{tick:g}</text>')
    for tick in ticks(0, right):
        x, _ = place(tick, high).split(",")
        parts.append(f'<text class="faint" x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    for index, curve in sound:
        points = " ".join(place(x, y) for x, y in curve)
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{points}"/>')
        if len(curve) <= FEW:
            at = (place(x, y).split(",") for x, y in curve)
            parts += [f'<circle fill="{colour}" cx="{x}" cy="{y}" r="2.6"/>' for x, y in at]
    parts.append(f'<text class="faint" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(axis)}</text>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" style="width: 100%; height: auto; font-size: 12px"'
    return f'<svg role="img" aria-label="curves over {escape(axis)}" {size}>{"".join(parts)}</svg>'


def thinned(curve: Curve) -> list[tuple[float, float]]:
    """At most `POINTS` points, each the mean of as many."""
    if len(curve) <= POINTS:
        return list(curve)
    edges = [len(curve) * at // POINTS for at in range(POINTS + 1)]
    pieces = [curve[first:last] for first, last in pairwise(edges)]
    return [(sum(x for x, _ in piece) / len(piece), sum(y for _, y in piece) / len(piece)) for piece in pieces]


def _curves(runs: Sequence[Told], over: str, figure: str) -> list[Curve]:
    return [run.curve(over, figure) for run in runs]


def _legend(runs: Sequence[Told]) -> str:
    names = (
        f'<span style="color:{COLOURS[at % len(COLOURS)]}">■</span> {escape(run.name)}' for at, run in enumerate(runs)
    )
    return f"<p>{' &nbsp; '.join(names)}</p>"


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
