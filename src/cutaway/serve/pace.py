"""How long those who are sent away should stay away: by how many wait, and how fast turns ended lately.

Little's law (1961), L = r W: who comes behind L others, of whom r a second get their turn, waits W = L / r seconds.
Departure: the end that comes next is counted as if it came now, so that there is a rate before anything has ended.
Read next: serve/turns.py
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

LATELY = 60.0
"""Seconds of the past that tell the rate."""

MOST = 60
"""Seconds: the `openai` client takes no longer Retry-After at its word, and comes again at once."""


class Pace:
    """`clock`: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self._ends: deque[float] = deque()
        self._since: float | None = None  # when there was last nobody with a turn

    def began(self) -> None:
        """Somebody has got their turn."""
        if self._since is None:
            self._since = self.clock()

    def ended(self, left: int) -> None:
        """Somebody has given theirs back; `left` still have one, or wait for one."""
        if left:
            self._ends.append(self.clock())
            self._forget()
        else:  # idle time says nothing of the rate
            self._ends.clear()
            self._since = None

    def wait(self, before: int) -> int:
        """Whole seconds, 1 to MOST, until `before` others will have got their turn."""
        if self._since is None:
            return 1
        self._forget()
        span = self.clock() - max(self._since, self.clock() - LATELY)
        return bounded(before * span / (len(self._ends) + 1))

    def _forget(self) -> None:
        while self._ends and self._ends[0] < self.clock() - LATELY:
            self._ends.popleft()


def bounded(seconds: float) -> int:
    """As Retry-After says it."""
    return min(max(math.ceil(seconds), 1), MOST)
