"""What an objective returns: a sum and a count, never a mean, so that micro-batches and machines add up exactly.

Read next: train/fit.py, train/objectives/causal.py
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cutaway.data.batch import IGNORE, Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Loss:
    """`total`: the sum over `count` items, with its gradient. `metrics`: further sums over the same items, detached.
    `report`: what the module's parts reported, for whoever stands around the objective (balance of experts).

    A count may stay a tensor, so that a GPU need not be waited for.
    """

    total: Tensor
    count: int | Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    def sums(self) -> Tensor:
        """Total, count and metrics, detached, as one vector in float64 (float32 where there is no wider)."""
        device = self.total.device
        wide = torch.float32 if device.type == "mps" else torch.float64
        numbers = (self.total.detach(), self.count, *self.metrics.values())
        return torch.stack([torch.as_tensor(number, dtype=wide, device=device) for number in numbers])


class Objective(Protocol):
    """What is to be learned. `splits`: whether a batch may be cut in pieces without changing the sum."""

    @property
    def splits(self) -> bool: ...

    def __call__(self, module: nn.Module, batch: Batch) -> Loss: ...


def asked(targets_N: Tensor) -> int | Tensor:
    """How many targets are not IGNORE; on the CPU as a number."""
    count = targets_N.ne(IGNORE).sum()
    return int(count) if count.is_cpu else count
