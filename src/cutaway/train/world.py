"""The processes that train one model together, as much of them as the loop must know.

Read next: train/fit.py
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class World(Protocol):
    """`size`: data-parallel processes, whose gradients the module's sharding averages."""

    @property
    def size(self) -> int: ...

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum over all data-parallel processes, the same on each."""
        ...

    def length(self, gradients: list[Tensor]) -> float:
        """The joint length of all gradients, wherever their parts lie, the same on each process."""
        ...


class Alone:
    """One process."""

    size = 1

    def sum(self, numbers: Tensor) -> Tensor:
        return numbers

    def length(self, gradients: list[Tensor]) -> float:
        return float(torch.nn.utils.get_total_norm(gradients))
