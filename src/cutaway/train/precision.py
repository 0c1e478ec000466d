"""What a training step computes in: float32, bfloat16, or float16 with its loss scaled.

Read next: train/fit.py
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor


class Precision(Protocol):
    """`factor`: what the loss, and so the gradient, is multiplied by."""

    @property
    def factor(self) -> float: ...
    def compute(self, device: torch.device) -> AbstractContextManager[Any]: ...
    def scaled(self, total: Tensor) -> Tensor: ...
    def step(self, optimiser: Any, norm: float) -> None: ...


class Full:
    """The weights' own precision."""

    factor = 1.0

    def compute(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext()

    def scaled(self, total: Tensor) -> Tensor:
        return total

    def step(self, optimiser: Any, norm: float) -> None:
        optimiser.step()


FULL = Full()
