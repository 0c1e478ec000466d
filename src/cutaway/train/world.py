"""The processes that train one model together, as much of them as the loop must know.

Read next: train/fit.py
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class World(Protocol):
    """`size`: data-parallel processes, whose gradients the module's sharding averages."""

    @property
    def size(self) -> int: ...

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum over all data-parallel processes, the same on each."""
        ...


class Alone:
    """One process."""

    size = 1

    def sum(self, numbers: Tensor) -> Tensor:
        return numbers
