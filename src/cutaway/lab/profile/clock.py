"""A clock that gives every moment to one name: that of the innermost thing that runs.

A sampled or cumulative profile counts a moment for a part and for all that it stands in. Here whoever begins stops the
one it began in, so the times of all names add up to the whole between `start` and `stop`, but for rounding.
Read next: lab/profile/watch.py
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence


class Clock:
    """`seconds` and `calls` by name. `now`: the time in seconds; on a device that works behind the program's back, a
    function that first waits for it."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self.now = now
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.whole = 0.0
        self._names: list[str] = []
        self._begun = self._last = 0.0

    @property
    def name(self) -> str:
        """Who the present moment is counted for."""
        return self._names[-1]

    def start(self, name: str) -> None:
        """Begins; what has no name of its own is `name`'s."""
        self._names[:] = [name]
        self._begun = self._last = self.now()

    def stop(self) -> None:
        """Ends, whatever is still open."""
        self._count()
        self.whole += self._last - self._begun
        self._names.clear()

    def enter(self, name: str) -> None:
        self._count()
        self._names.append(name)
        self.calls[name] += 1

    def leave(self) -> None:
        self._count()
        self._names.pop()

    def become(self, name: str) -> None:
        """From here on the outermost, which has no name of its own, is another's."""
        self._count()
        self._names[0] = name

    def share(self, parts: Sequence[tuple[str, float]]) -> None:
        """What the present name has just spent, it spent on these: names and their seconds."""
        self._count()
        present = self._names[-1]
        for name, seconds in parts:
            self.seconds[present] -= seconds
            self.seconds[name] += seconds
            self.calls[name] += 1

    def timed(self, call: Callable, name: Callable[[str], str]) -> Callable:
        """`call`, counted for what `name` makes of the name that it is called under."""
        names, seconds, calls, now = self._names, self.seconds, self.calls, self.now

        def counted(*given, **told):  # `enter` and `leave` written out: it stands around every form of every layer
            caller = names[-1]
            part = name(caller)
            start = now()
            seconds[caller] += start - self._last
            self._last = start
            names.append(part)
            calls[part] += 1
            try:
                return call(*given, **told)
            finally:
                end = now()
                seconds[part] += end - self._last
                self._last = end
                names.pop()

        return counted

    def _count(self) -> None:
        now = self.now()
        self.seconds[self._names[-1]] += now - self._last
        self._last = now
