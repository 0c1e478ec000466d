"""The live engine: what it holds, shares and writes, looked at once a second.

Read next: infer/ask.py (`Stats`)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from nicegui import ui

from cutaway.infer.ask import Stats

OFTEN = 1.0
KEPT = 60  # looks in the curve
SHOWN = (
    "running",
    "waiting",
    "pages",
    "pages_shared",
    "prefix_hits",
    "prefix_tokens",
    "prompt_tokens",
    "written_tokens",
    "preemptions",
    "steps",
    "guesses",
)


class Figures:
    """Built where it stands. Only what has changed is sent to the page."""

    def __init__(self, stats: Callable[[], Stats], words: Mapping[str, str]):
        self._stats, self._past = stats, deque([0.0] * KEPT, maxlen=KEPT)
        with ui.element("div").classes("speed"):
            self._speed = ui.element("span").props('data-figure="tokens_per_second"')
            with self._speed:
                self._number = ui.label("0.0").style("display: inline")
            ui.html(f"<small>{words['tokens_per_second']}</small>", sanitize=False, tag="span")
        self._curve = ui.html(curve(self._past), sanitize=False).classes("spark")
        self._labels = {}
        for name in SHOWN:
            with ui.element("div").classes("figure"):
                ui.label(words[name]).style("display: inline")
                self._labels[name] = ui.label("0").props(f'data-figure="{name}"').style("display: inline")
            if name == "pages":
                with ui.element("div").classes("track"):
                    self._track = ui.element("div").style("width: 0%")
        ui.timer(OFTEN, self.look)
        self.look()

    def look(self) -> None:
        """Takes the figures as they are now."""
        stats = self._stats()
        self._past.append(stats.tokens_per_second)
        self._number.text = f"{stats.tokens_per_second:.1f}"
        drawn = curve(self._past)
        if drawn != self._curve.content:
            self._curve.content = drawn
        for name, text in told(stats).items():
            if self._labels[name].text != text:
                self._labels[name].text = text
        self._track.style(f"width: {100 * stats.pages_held / max(stats.pages, 1):.1f}%")


def told(stats: Stats) -> dict[str, str]:
    """Each figure as it is shown."""
    plain = {name: f"{getattr(stats, name):,}" for name in SHOWN if name not in ("pages", "guesses")}
    share = f" ({stats.accepted / stats.proposed:.0%})" if stats.proposed else ""
    return {
        **plain,
        "pages": f"{stats.pages_held:,} / {stats.pages:,}",
        "guesses": f"{stats.accepted:,} / {stats.proposed:,}{share}",
    }


def curve(values: deque[float]) -> str:
    """Tokens per second over the last looks, as a line."""
    top = max(*values, 1.0)
    points = " ".join(f"{index},{40 - 38 * value / top:.1f}" for index, value in enumerate(values))
    return (
        f'<svg class="spark" viewBox="0 0 {KEPT - 1} 44" preserveAspectRatio="none" aria-hidden="true">'
        f'<polyline points="{points}"/></svg>'
    )
