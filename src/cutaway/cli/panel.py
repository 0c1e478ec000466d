"""A run as one watches it: a panel that is drawn over itself, or, where nobody watches, a plain line now and then.

Read next: cli/train.py
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cutaway.cli import console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cutaway.recipes.training import Moment

BARS = "▁▂▃▄▅▆▇█"
EVERY = 15.0  # seconds between two plain lines
DRAWN = 8.0  # pictures a second at most; a tiny model makes more steps than that
RECENT = 30  # steps that a rate is the mean of


def watcher(steps: int, start: int, flops: float, peak: float | None) -> LivePanel | PlainLines:
    """The panel for a terminal, plain lines for a pipe. `flops`: of one token; `peak`: FLOP/s of this machine."""
    pace = Pace(steps, start, flops, peak)
    return LivePanel(pace) if console.messages().is_terminal else PlainLines(pace)


class Pace:
    """What a run's figures come to: how fast, how much of the machine, how long still."""

    def __init__(self, steps: int, start: int, flops: float, peak: float | None):
        self.steps, self.index, self.flops, self.peak = steps, start, flops, peak
        self.losses: list[float] = []
        self.val_loss: float | None = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)  # seconds and tokens of the last steps

    def add(self, line: dict[str, Any]) -> None:
        self.index = line["step"]
        self.losses.append(line["loss"])
        self.val_loss = line.get("val_loss", self.val_loss)
        self._recent.append((line["tokens"] / max(line["tokens_per_second"], 1e-9), line["tokens"]))

    @property
    def rate(self) -> float:
        """Tokens a second over the last steps, evaluation not counted."""
        return sum(tokens for _, tokens in self._recent) / max(sum(seconds for seconds, _ in self._recent), 1e-9)

    @property
    def share(self) -> float | None:
        """The share of the machine's matrix products that the model's arithmetic takes."""
        return self.rate * self.flops / self.peak if self.peak else None

    @property
    def left(self) -> float:
        """Seconds to the end at this pace."""
        each = sum(seconds for seconds, _ in self._recent) / max(len(self._recent), 1)
        return each * (self.steps - self.index)

    def words(self) -> str:
        """All of it in one line."""
        told = [f"step {self.index:,}/{self.steps:,}", f"loss {self.losses[-1]:.4f}"]
        if self.val_loss is not None:
            told.append(f"validation {self.val_loss:.4f}")
        told.append(f"{self.rate:,.0f} tokens/s")
        if self.share is not None:
            told.append(f"{100 * self.share:.0f}% of the matmul peak")
        return " · ".join([*told, f"{duration(self.left)} left"])


class PlainLines:
    """A line at each evaluation, and at most every `EVERY` seconds between."""

    def __init__(self, pace: Pace):
        self.pace, self._last = pace, time.perf_counter()

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *told: object) -> None:
        return None

    def show(self, moment: Moment) -> None:
        self.pace.add(moment.line)
        now = time.perf_counter()
        if "val_loss" in moment.line or now - self._last >= EVERY:
            self._last = now
            console.say(self.pace.words())


class LivePanel:
    """The loss as a line of bars, figures under it, and the latest sample."""

    def __init__(self, pace: Pace):
        from rich.live import Live

        self.pace, self.sample, self._last = pace, "", 0.0
        self._live = Live(console=console.messages(), auto_refresh=False, transient=False)

    def __enter__(self) -> LivePanel:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pace.losses:
            self._live.update(self._drawn(), refresh=True)
        self._live.__exit__(kind, error, trace)

    def show(self, moment: Moment) -> None:
        self.pace.add(moment.line)
        self.sample = moment.sample if moment.sample is not None else self.sample
        now = time.perf_counter()
        if now - self._last >= 1 / DRAWN or moment.sample is not None:
            self._last = now
            self._live.update(self._drawn(), refresh=True)

    def _drawn(self) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        width = max(20, min(console.messages().width - 6, 100))
        curve = Text(sparkline(self.pace.losses, width), style="cyan")
        parts: list[RenderableType] = [curve, Text(self.pace.words())]
        if self.sample:
            lines = [line for line in console.safe(self.sample).strip().splitlines() if line.strip()]
            parts.append(Text("\n" + "\n".join(lines[:6]), style="dim", overflow="ellipsis", no_wrap=True))
        return Panel(Group(*parts), title="training", title_align="left", border_style="dim")


def sparkline(numbers: Sequence[float], width: int) -> str:
    """Numbers as a line of at most `width` bars, each the mean of as many; what is not finite is left out."""
    sound = [number for number in numbers if number is not None and abs(number) < float("inf")]
    if not sound:
        return ""
    count = min(width, len(sound))
    edges = [len(sound) * place // count for place in range(count + 1)]
    means = [sum(sound[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    reach = (high - low) or 1.0
    return "".join(BARS[round((mean - low) / reach * (len(BARS) - 1))] for mean in means)


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
