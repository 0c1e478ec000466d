"""Values as dots on rows over one axis, with a bar at each row's mean: as many as there are seeds. Inline SVG.

Read next: lab/plot.py, lab/compare/contest.py
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape

LEFT, WIDE, RIGHT, ROW, FOOT = 190, 430, 130, 26, 24  # pixels: names, the axis, what is written behind it; a row


def dot_rows(rows: Sequence[tuple[str, Sequence[float], str]], label: str) -> str:
    """A row for each name with its values and what is written behind them; "" where there is no value at all."""
    every = [value for _, values, _ in rows for value in values]
    if not every:
        return ""
    low, high = min(every), max(every)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    left, reach = low - room, high - low + 2 * room

    def x(value: float) -> float:
        return LEFT + (value - left) / reach * WIDE

    parts = []
    for place, (name, values, written) in enumerate(rows):
        y = ROW * (place + 0.5)
        parts.append(f'<text x="0" y="{y:.0f}" dy=".35em">{escape(name)}</text>')
        parts.append(f'<path class="frame" d="M{LEFT},{y:.0f}h{WIDE}"/>')
        dots = (f'<circle class="cell" cx="{x(value):.1f}" cy="{y:.0f}" r="4.5"/>' for value in values)
        parts += [f"<g><title>{value:.4f}</title>{dot}</g>" for value, dot in zip(values, dots, strict=True)]
        if values:
            middle = x(statistics.mean(values))
            parts.append(f'<rect class="cool" x="{middle - 1.5:.1f}" y="{y - 8:.0f}" width="3" height="16"/>')
        parts.append(f'<text class="faint" x="{LEFT + WIDE + 12}" y="{y:.0f}" dy=".35em">{escape(written)}</text>')
    height = ROW * len(rows) + FOOT
    for value in {low, high}:
        parts.append(f'<text class="faint" x="{x(value):.1f}" y="{height - 6}" text-anchor="middle">{value:.3f}</text>')
    width = LEFT + WIDE + RIGHT
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg role="img" aria-label="{escape(label)}" {size}>{"".join(parts)}</svg>'
