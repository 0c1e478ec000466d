"""What an objective returns: a sum and a count, never a mean, so that micro-batches and machines add up exactly.

Read next: train/fit.py
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from cutaway.data.batch import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Loss:
    """`total`: the sum over `count` items, with its gradient. `metrics`: further sums over the same items, detached."""

    total: Tensor
    count: int
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What is to be learned. `splits`: whether a batch may be cut in pieces without changing the sum."""

    @property
    def splits(self) -> bool: ...

    def __call__(self, module: nn.Module, batch: Batch) -> Loss: ...
