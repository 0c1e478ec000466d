"""A roofline: speed against arithmetic for each byte, both on a log scale, under what memory and products allow. SVG.

    speed <= min(bandwidth * operations per byte, rate)        Williams, Waterman, Patterson 2009, CACM 52(4)
Read next: lab/plot.py, lab/compare/matmul_page.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rich.cells import cell_len

from cutaway.lab.plot import COLOURS, apart, decades
from cutaway.lab.units import counted, sized

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 460, 58, 118, 28, 44  # on the right are the names of levels
LETTER = 6.7  # pixels of a column of text
NAME = 9  # between a dot and its name
HALO = 'paint-order="stroke" stroke="var(--panel)" stroke-width="4"'  # a line under a name stops beside it
LEAST = "50rem"  # no narrower: on a small screen it is scrolled rather than read with a glass


@dataclass(frozen=True, kw_only=True)
class Dot:
    """`across`: operations for each byte; `up`: operations a second; `place`: which colour; `about`: what a pointer
    that rests on it is told."""

    name: str
    about: str
    across: float
    up: float
    place: int
    hollow: bool = False


@dataclass(frozen=True, kw_only=True)
class Peak:
    """A level that no speed is above: operations a second, and what they are."""

    name: str
    rate: float


def roofline(dots: Sequence[Dot], bandwidth: float, peaks: Sequence[Peak]) -> str:
    """The picture; "" where there is nothing to show. `bandwidth`: bytes a second."""
    if not dots or not peaks or not bandwidth > 0:
        return ""
    frame = _Frame(dots, bandwidth, peaks)
    parts = [*frame.axes(), *frame.roofs(), *frame.columns(dots)]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" style="width: 100%; min-width: {LEAST}; height: auto"'
    label = "operations a second against operations for each byte of weights"
    return f'<svg role="img" aria-label="{label}" {size}>{"".join(parts)}</svg>'


class _Frame:
    """Where numbers stand."""

    def __init__(self, dots: Sequence[Dot], bandwidth: float, peaks: Sequence[Peak]):
        self.bandwidth, self.peaks = bandwidth, peaks
        self.most = max(peak.rate for peak in peaks)
        ridge = self.most / bandwidth
        self.across = min(dot.across for dot in dots) / 2, max(ridge, *(dot.across for dot in dots)) * 4
        lows = [*(dot.up for dot in dots), min(bandwidth * self.across[0], self.most)]
        self.up = min(lows) / 2, max(self.most, *(dot.up for dot in dots)) * 2.5

    def x(self, number: float) -> float:
        low, high = map(math.log10, self.across)
        return LEFT + (math.log10(number) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, number: float) -> float:
        low, high = map(math.log10, self.up)
        return TOP + (high - math.log10(number)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> list[str]:
        end, foot = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = ['<text class="faint" x="0" y="12">operations a second</text>']
        title = "operations for each byte of weights"
        parts.append(f'<text class="faint" x="{end}" y="{HEIGHT - 6}" text-anchor="end">{title}</text>')
        for tick in decades(*self.up):
            down = self.y(tick)
            parts.append(f'<path class="frame" d="M{LEFT},{down:.1f}H{end}"/>')
            text = escape(counted(tick))
            parts.append(
                f'<text class="faint" x="{LEFT - 6}" y="{down:.1f}" dy=".35em" text-anchor="end">{text}</text>'
            )
        for tick in decades(*self.across):
            along = self.x(tick)
            parts.append(f'<text class="faint" x="{along:.1f}" y="{foot + 18}" text-anchor="middle">{tick:g}</text>')
        return parts

    def roofs(self) -> list[str]:
        """The slope up to the highest level, and the levels from the slope on, each with its name behind its end."""
        left, end = self.across[0], WIDTH - RIGHT
        stroke = 'class="roof" fill="none" stroke="currentColor" stroke-width="1.6"'
        start = min(self.most, self.bandwidth * left)
        ridge = self.most / self.bandwidth
        parts = [
            f'<path {stroke} d="M{self.x(left):.1f},{self.y(start):.1f}L{self.x(ridge):.1f},{self.y(self.most):.1f}"/>'
        ]
        for peak in self.peaks:
            along, down = self.x(max(left, peak.rate / self.bandwidth)), self.y(peak.rate)
            parts.append(f'<path {stroke} d="M{along:.1f},{down:.1f}H{end}"/>')
        named = sorted(self.peaks, key=lambda peak: -peak.rate)
        places = apart([self.y(peak.rate) for peak in named], TOP, HEIGHT - BOTTOM)
        for peak, place in zip(named, places, strict=True):
            parts.append(f'<text x="{end + 8}" y="{place:.1f}" dy=".35em">{escape(peak.name)}</text>')
        # Along the slope, half-way: it rises by the same on the picture everywhere.
        middle = math.sqrt(left * ridge)
        along, down = self.x(middle), self.y(self.bandwidth * middle)
        rise, run = self.y(self.bandwidth * left) - self.y(self.most), self.x(ridge) - self.x(left)
        angle = -math.degrees(math.atan2(rise, run))
        where = f'transform="translate({along:.1f},{down:.1f}) rotate({angle:.1f})"'
        text = escape(f"memory, {sized(self.bandwidth)}/s")
        return [*parts, f'<text {where} y="-7" text-anchor="middle">{text}</text>']

    def columns(self, dots: Sequence[Dot]) -> list[str]:
        """Dots of one intensity stand above each other: their names are pushed apart together."""
        found: dict[str, list[Dot]] = {}
        for dot in dots:
            found.setdefault(f"{dot.across:.3g}", []).append(dot)
        return [part for column in found.values() for part in self._column(sorted(column, key=lambda dot: -dot.up))]

    def _column(self, dots: Sequence[Dot]) -> list[str]:
        parts, along = [], self.x(dots[0].across)
        places = apart([self.y(dot.up) for dot in dots], TOP, HEIGHT - BOTTOM)
        for dot, place in zip(dots, places, strict=True):
            colour, down = COLOURS[dot.place % len(COLOURS)], self.y(dot.up)
            fill = "var(--panel)" if dot.hollow else colour
            circle = (
                f'<circle cx="{along:.1f}" cy="{down:.1f}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
            )
            # To the left where there is no room on the right.
            left = along + NAME + LETTER * cell_len(dot.name) > WIDTH - RIGHT
            edge, anchor = (along - NAME, "end") if left else (along + NAME, "start")
            if abs(place - down) > 3:
                parts.append(
                    f'<path stroke="{colour}" stroke-width=".8" d="M{along:.1f},{down:.1f}L{edge},{place:.1f}"/>'
                )
            parts.append(f"<g><title>{escape(dot.about)}</title>{circle}</g>")
            name = f'<text style="fill:{colour}" x="{edge:.1f}" y="{place:.1f}" dy=".35em" text-anchor="{anchor}"'
            parts.append(f"{name} {HALO}>{escape(dot.name)}</text>")
        return parts
