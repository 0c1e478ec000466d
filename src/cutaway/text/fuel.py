"""A budget for running somebody else's chat template: every value has a weight, every step is paid for.

One unit is about one character of memory or ten nanoseconds of work.
A value's weight counts it as if written out in full, so a small list that holds itself a million times over
(`x = [x, x]`, forty times) is as heavy as its `repr` would be. A template cannot change a list or dict, so a container
is weighed once and remembered.
Departure from Jinja2: its sandbox keeps a template from reaching out, and sets no bound to time or memory.
Read next: text/costs.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jinja2 import TemplateError

ELEMENT = 64  # one slot of a container and the small object in it, in bytes, rounded up
NODE = 8  # one node of the template's syntax tree, run once
CALL = 48  # one call of a function, method, macro, filter or test
BASE = 16_000_000  # about a second of work, or 16 to 64 MB
SHARE = 64  # units that each unit of the caller's own messages adds
LARGEST_BITS = 4096  # of an integer; none that a template counts with comes near


class Exhausted(TemplateError):
    """A template needs more work or memory than its input can justify."""


class Fuel:
    """What is left of the budget, and the weights known so far. Made for one rendering and thrown away after it."""

    def __init__(self, given: Any):
        self._known: dict[int, tuple[Any, int]] = {}
        self.left = BASE
        self.left += SHARE * self.weigh(given)

    def spend(self, units: int) -> None:
        """Raises Exhausted when the budget is used up. Comes before the work it pays for, wherever that is known."""
        if units > self.left:
            raise Exhausted("it takes more steps or memory than its messages can need; does it loop without end?")
        self.left -= max(0, units)

    def weigh(self, value: Any) -> int:
        """Units that writing `value` out in full takes. Containers cost one look at each element, the first time."""
        if isinstance(value, str):
            return 1 + len(value)
        if isinstance(value, bool) or value is None:
            return 4
        if isinstance(value, int):
            bits = value.bit_length()
            if bits > LARGEST_BITS:
                raise Exhausted(f"it makes an integer of {bits} bits")
            return 4 + bits // 3
        if isinstance(value, range):
            return 1 + len(value)
        if isinstance(value, (list, tuple, dict, set, frozenset)):
            return self._container(value)
        if isinstance(value, (type({}.items()), type({}.keys()), type({}.values()))):
            return 1 + sum(ELEMENT + self.weigh(item) for item in value)
        return 24

    def _container(self, value: Any) -> int:
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if isinstance(value, Mapping):
            weight = 1 + sum(2 * ELEMENT + self.weigh(key) + self.weigh(item) for key, item in value.items())
        else:
            weight = 1 + sum(ELEMENT + self.weigh(item) for item in value)
        self._known[id(value)] = (value, weight)  # held, so that its id is not given to another value
        return weight

    def made(self, value: Any) -> Any:
        """Pays for a new value: its own slots, not what it shares with older ones. A lazy one is drawn out first."""
        if isinstance(value, Iterator):
            value = list(self._drawn(value))
        if isinstance(value, str):
            self.spend(1 + len(value))
        else:
            self.weigh(value)
            self.spend(ELEMENT * (1 + len(value)) if isinstance(value, (list, tuple, dict)) else NODE)
        return value

    def _drawn(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.spend(ELEMENT)
            yield item

    def seen(self, value: Any) -> Any:
        """Pays for reading all of `value` once (a comparison, a hash); a string is read 16 characters a unit."""
        weight = self.weigh(value)
        self.spend(1 + (weight // 16 if isinstance(value, str) else weight))
        return value
