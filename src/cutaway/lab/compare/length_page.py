"""How reading beyond the trained length is shown: a table, perplexity by position, what was found where.

Read next: lab/plot.py, lab/compare/length.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from cutaway.lab.compare.comparison import Measured, Table, attention_in_words
from cutaway.lab.compare.stretched import VARIANTS
from cutaway.lab.compare.subject import Subject, key
from cutaway.lab.page import Section
from cutaway.lab.page import page as whole
from cutaway.lab.plot import BESIDE, Axis, Line, plot

CELL, ROW, LEFT = 64, 26, 44  # pixels: a cell of a grid, its height, room for the depths
ABOUT = {
    "as-is": "the model as it is",
    "linear": "positions squeezed evenly (arXiv 2306.15595)",
    "dynamic-ntk": "a larger base of the rotation, that of the whole context from the start (arXiv 2309.00071)",
    "yarn": "slow turns squeezed, fast ones kept, scores sharpened (arXiv 2309.00071)",
    "llama3": "slow turns squeezed, fast ones kept (Llama 3.1)",
    "window": "each token sees the last {window}",
    "window+sinks": "the last {window} and the first {sinks}, positions within the rolling cache (arXiv 2309.17453)",
}
NOTE = (
    "Perplexity within: of the second half of the trained length; beyond: from there to the context. Found: the share "
    "of numbers, told somewhere in the text and asked for at its end, that are answered whole; within and beyond the "
    "trained length."
)


def tables(subjects: Sequence[Subject], measured: Measured) -> tuple[Table, ...]:
    """A row for each model and variant; what is missing is a dash."""
    columns = ("model", "variant", "perplexity within", "beyond", "found within", "found beyond")
    rows = []
    for subject in subjects:
        for place, name in enumerate(subject.variants):
            figures = measured.get(key(subject.model, name), {})
            cells = (_perplexity(figures.get("within")), _perplexity(figures.get("beyond")))
            within, beyond = (_found(figures, subject.trained, past=past) for past in (False, True))
            rows.append(("" if place else _called(subject), name, *cells, within, beyond))
    return (Table(title="Beyond the trained length", columns=columns, rows=tuple(rows), note=NOTE, words=2),)


def page(subjects: Sequence[Subject], text: str, measured: Measured, attend: str | None = None) -> str:
    """The whole page; it needs nothing from elsewhere. `attend`: the form of attention that read."""
    lead = [
        f"Each model reads texts ({text}) that are longer than those of its training: as it is, with its rotation "
        f"stretched, or with a window. The weights are the same throughout. {attention_in_words(attend)}"
    ]
    sections = [table.section() for table in tables(subjects, measured)]
    for subject in subjects:
        sections += [_curves(subject, measured), _grids(subject, measured)]
    return whole("Beyond the trained length", lead, sections)


def _called(subject: Subject) -> str:
    return f"{subject.model} ({subject.trained:,} → {subject.context:,})"


def _perplexity(loss: Any) -> str:
    return f"{math.exp(min(loss, 50.0)):,.2f}" if isinstance(loss, float) else "–"


def _found(figures: Mapping[str, Any], trained: int, *, past: bool) -> str:
    """The mean over all depths of the lengths on one side of the trained one."""
    shares = [one["found"] for one in figures.get("passkey", ()) if (one["length"] > trained) == past]
    return f"{sum(shares) / len(shares):.0%}" if shares else "–"


def _curves(subject: Subject, measured: Measured) -> Section:
    lines, most = [], 1.0
    for name in subject.variants:
        figures = measured.get(key(subject.model, name), {})
        edges: Any = figures.get("edges", ())
        losses: Any = figures.get("losses", ())
        middles = [(first + last) / 2 for first, last in pairwise(edges)]
        points = [
            (middle, math.exp(min(loss, 50.0)))
            for middle, loss in zip(middles, losses, strict=True)
            if loss is not None
        ]
        most = max([most, *(height for _, height in points)])
        lines.append(Line(name=name, points=points, place=list(VARIANTS).index(name)))
    least = min((height for line in lines for _, height in line.points), default=1.0)
    edge = ((subject.trained, least), (subject.trained, most))
    lines.append(Line(name="trained", points=edge if any(line.points for line in lines) else (), place=len(VARIANTS)))
    x, y = Axis(title="position", written="{:,.0f}".format), Axis(title="perplexity", log=True)
    times = "one passage" if subject.passages == 1 else f"the mean of {subject.passages} passages"
    return Section(
        title=f"{subject.model}: perplexity by position",
        body=f'<div class="panel" style="max-width: 52rem">{plot(lines, x, y)}</div>',
        note=f"Trained at {subject.trained:,} tokens, read at {subject.context:,}; {times}.",
    )


def _grids(subject: Subject, measured: Measured) -> Section:
    told = {"window": f"{subject.window:,}", "sinks": subject.sinks}
    panels = []
    for name in subject.variants:
        answers: Any = measured.get(key(subject.model, name), {}).get("passkey", ())
        if answers:
            about = ABOUT[name].format(**told)
            head = f'<p class="question">{escape(name)}</p><p class="note">{escape(about)}</p>'
            panels.append(f'<div class="panel">{head}{grid(answers, subject.trained)}</div>')
    return Section(
        title=f"{subject.model}: numbers found",
        body=f'<div style="{BESIDE}">{"".join(panels)}</div>',
        note=(
            "Columns: tokens of the text, those beyond the trained length in bold; rows: where in it the number was "
            f"told, 0% its beginning. In a cell: the share of {subject.passages} texts that were answered whole."
        ),
    )


def grid(answers: Sequence[Mapping[str, Any]], trained: int) -> str:
    """Length by depth as inline SVG, the fuller the colour the more was found."""
    lengths = sorted({one["length"] for one in answers})
    depths = sorted({one["depth"] for one in answers})
    parts = []
    for column, length in enumerate(lengths):
        weight = ' font-weight="bold"' if length > trained else ""
        x = LEFT + CELL * (column + 0.5)
        parts.append(f'<text class="faint" x="{x}" y="14" text-anchor="middle"{weight}>{length:,}</text>')
    for row, depth in enumerate(depths):
        parts.append(f'<text class="faint" x="0" y="{ROW * (row + 1) + 11}">{depth:.0%}</text>')
    for one in answers:
        x, y = LEFT + CELL * lengths.index(one["length"]), ROW * (depths.index(one["depth"]) + 1) - 6
        size = f'x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{ROW - 2}" rx="2"'
        nats = "" if one["nats"] is None else f"; {one['nats']:.2f} nats a token of the number"
        box = f'<rect class="frame" {size}/><rect class="cool" {size} fill-opacity="{0.8 * one["found"]:.2f}"/>'
        said = f'<text x="{x + CELL / 2}" y="{y + 17}" text-anchor="middle">{one["found"]:.0%}</text>'
        parts.append(f"<g><title>{one['found']:.0%} found{nats}</title>{box}{said}</g>")
    width, height = LEFT + CELL * len(lengths), ROW * (len(depths) + 1)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg role="img" aria-label="numbers found by length and depth" {size}>{"".join(parts)}</svg>'
