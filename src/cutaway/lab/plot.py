"""Lines over an axis as inline SVG: linear or logarithmic, each line named at its end.

Read next: lab/page.py, lab/runs_page.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from rich.cells import cell_len, chop_cells

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 580, 330, 62, 132, 42, 26  # of a plot, and of the room around its lines
GAP = 14  # pixels between two names
LONGEST = 16  # columns of a name at a line's end; the legend has it whole
COLOURS = ("#e8913a", "#2f7f8f", "#9c5fb5", "#5a9a3c", "#c4453c", "#4a6fd0", "#8a7a2a", "#c2569a")
DASHES = ("", "6 3", "2 3")  # of the lines for which there is no colour left
BESIDE = "display: grid; gap: 0 .8rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr))"
DOTS = 40  # points of a line that are drawn as dots too; of a longer one they would hide it


@dataclass(frozen=True, kw_only=True)
class Line:
    """`place`: which colour it has; lines of one name have one on all plots of a page. `spread`: a band from low to
    high at each x, where what is drawn is a mean."""

    name: str
    points: Sequence[tuple[float, float]]
    place: int
    spread: Sequence[tuple[float, float, float]] = ()

    @property
    def colour(self) -> str:
        return COLOURS[self.place % len(COLOURS)]

    @property
    def dash(self) -> str:
        return DASHES[self.place // len(COLOURS) % len(DASHES)]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """`written`: a number as text. `ticks`: where to write one; if None, at round numbers."""

    title: str
    log: bool = False
    written: Callable[[float], str] = "{:g}".format
    ticks: tuple[float, ...] | None = None

    def scale(self, number: float) -> float:
        return math.log10(number) if self.log else number

    def sound(self, number: float) -> bool:
        return math.isfinite(number) and (number > 0 or not self.log)

    def marks(self, low: float, high: float) -> list[float]:
        if self.ticks is not None:
            return [tick for tick in self.ticks if low <= tick <= high]
        return decades(low, high) if self.log else ticks(low, high)


def plot(lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """One picture, as wide as its place. Points that an axis cannot show are left out; "" where none is left."""
    kept = [(line, [point for point in line.points if x.sound(point[0]) and y.sound(point[1])]) for line in lines]
    kept = [(line, sorted(points)) for line, points in kept if points]
    if not kept:
        return ""
    across = [point[0] for _, points in kept for point in points]
    up = [point[1] for _, points in kept for point in points]
    up += [end for line, _ in kept for _, *ends in line.spread for end in ends if y.sound(end)]
    frame = _Frame(x, y, _widened(min(across), max(across), x), _widened(min(up), max(up), y))
    parts = frame.axes()
    for line, points in kept:
        parts += frame.line(line, points)
    parts += frame.names(kept)
    longest = max(cell_len(line.name) for line, _ in kept)
    width = WIDTH - RIGHT + min(RIGHT, 20 + 8 * longest)  # no wider than the names are: on a narrow page it is enlarged
    size = f'viewBox="0 0 {width} {HEIGHT}" style="width: 100%; height: auto; font-size: 12px"'
    label = escape(f"{y.title} over {x.title}")
    return f'<svg role="img" aria-label="{label}" {size}>{"".join(parts)}</svg>'


def beside(pictures: Sequence[str]) -> str:
    """Pictures in a grid that folds on a narrow page."""
    panels = "".join(f'<div class="panel">{picture}</div>' for picture in pictures if picture)
    return f'<div style="{BESIDE}">{panels}</div>'


def legend(names: Sequence[str]) -> str:
    """The colour of each line, by its place."""
    marks = (f'<span style="color:{Line(name="", points=(), place=at).colour}">■</span>' for at in range(len(names)))
    whole = '<span style="white-space:nowrap">{} {}</span>'
    shown = (whole.format(mark, escape(name)) for mark, name in zip(marks, names, strict=True))
    return f"<p>{' &#160; '.join(shown)}</p>"


def ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers between two."""
    reach = high - low
    if not reach > 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(reach))
    step = next(one for one in (step / 5, step / 2, step) if reach / one <= 10)
    first = math.ceil(low / step)
    return [round(step * at, 10) for at in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten between two; where there are few, with others between them, or round numbers of any kind; where
    there are many, not all of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        found = [number for number in found if low <= number * (1 + 1e-9) and number <= high * (1 + 1e-9)]
        if len(found) >= 4:
            break
    if len(found) < 3:
        return ticks(low, high)
    return found if len(found) <= 9 else found[:: -(-len(found) // 9)]


def _widened(low: float, high: float, axis: Axis) -> tuple[float, float]:
    """Bounds that have room between them, whatever the numbers."""
    if high > low:
        return low, high
    return (low / 2, high * 2) if axis.log else (low - 0.5 * abs(low) - 1e-9, high + 0.5 * abs(high) + 1e-9)


class _Frame:
    """Where numbers stand on the picture."""

    def __init__(self, x: Axis, y: Axis, across: tuple[float, float], up: tuple[float, float]):
        self.x, self.y, self.across, self.up = x, y, across, up

    def at(self, x: float, y: float) -> tuple[float, float]:
        left, right = map(self.x.scale, self.across)
        low, high = map(self.y.scale, self.up)
        along = (self.x.scale(x) - left) / (right - left)
        down = (high - self.y.scale(y)) / (high - low)
        return LEFT + along * (WIDTH - LEFT - RIGHT), TOP + down * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> list[str]:
        end, foot = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = [f'<text class="faint" x="0" y="12">{escape(self.y.title)}</text>']
        parts.append(f'<text class="faint" x="{end}" y="{HEIGHT - 6}" text-anchor="end">{escape(self.x.title)}</text>')
        for tick in self.y.marks(*self.up):
            _, down = self.at(self.across[0], tick)
            parts.append(f'<path class="frame" d="M{LEFT},{down:.1f}H{end}"/>')
            text = escape(self.y.written(tick))
            parts.append(
                f'<text class="faint" x="{LEFT - 6}" y="{down:.1f}" dy=".35em" text-anchor="end">{text}</text>'
            )
        for tick in self.x.marks(*self.across):
            along, _ = self.at(tick, self.up[0])
            text = escape(self.x.written(tick))
            parts.append(f'<text class="faint" x="{along:.1f}" y="{foot + 18}" text-anchor="middle">{text}</text>')
        return parts

    def line(self, line: Line, points: Sequence[tuple[float, float]]) -> list[str]:
        parts = []
        band = [(x, low, high) for x, low, high in line.spread if self.y.sound(low) and self.y.sound(high)]
        if band:
            there = [self.at(x, high) for x, _, high in band]
            back = [self.at(x, low) for x, low, _ in reversed(band)]
            parts.append(f'<polygon fill="{line.colour}" fill-opacity=".15" points="{_joined([*there, *back])}"/>')
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        drawn = [self.at(*point) for point in points]
        stroke = f'fill="none" stroke="{line.colour}" stroke-width="1.8"{dash}'
        parts.append(f'<polyline {stroke} points="{_joined(drawn)}"/>')
        for (x, y), (along, down) in zip(points, drawn, strict=True):
            if len(points) > DOTS:
                break
            told = escape(f"{line.name}, {self.x.written(x)}: {self.y.written(y)}")
            dot = f'<circle fill="{line.colour}" cx="{along:.1f}" cy="{down:.1f}" r="3"/>'
            parts.append(f"<g><title>{told}</title>{dot}</g>")
        return parts

    def names(self, lines: Sequence[tuple[Line, Sequence[tuple[float, float]]]]) -> list[str]:
        """Each line's name at its end, pushed apart where ends are close."""
        ends = sorted(((self.at(*points[-1]), line) for line, points in lines), key=lambda one: one[0][1])
        places = apart([down for (_, down), _ in ends], TOP, HEIGHT - BOTTOM)
        parts = []
        for ((along, down), line), place in zip(ends, places, strict=True):
            edge = WIDTH - RIGHT + 14
            if abs(place - down) > 2 or along < edge - 20:
                stroke = f'stroke="{line.colour}" stroke-width=".7" stroke-opacity=".6"'
                parts.append(f'<path {stroke} d="M{along + 4:.1f},{down:.1f}L{edge - 3},{place:.1f}"/>')
            text = escape(line.name if cell_len(line.name) <= LONGEST else f"{chop_cells(line.name, LONGEST - 1)[0]}…")
            parts.append(f'<text style="fill:{line.colour}" x="{edge}" y="{place:.1f}" dy=".35em">{text}</text>')
        return parts


def apart(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Places as near as can be to those wanted, in their order, `GAP` apart and, where there is room, between two."""
    gap = min(GAP, (high - low) / max(1, len(wanted) - 1))
    placed: list[float] = []
    for one in wanted:
        placed.append(max(one, placed[-1] + gap) if placed else max(one, low))
    limit = high
    for at in range(len(placed) - 1, -1, -1):
        placed[at] = min(placed[at], limit)
        limit = placed[at] - gap
    return placed


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
