"""AdamW: Adam with the decay beside the step, not in the gradient, so that no weight's decay hangs on its gradients.

Loshchilov and Hutter 2017 (arXiv 1711.05101), algorithm 2.   w = (1 - rate * decay) w;   then Adam's step
Norms and biases do not decay; tables do unless told otherwise.
Read next: train/optimisers/adam.py, train/optimisers/sorting.py
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.train.optimisers.adam import Form, adam, adam_foreach, fused, fusible
from cutaway.train.optimisers.descent import Descent, Pace, descent


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """`decay_tables`: whether token and position tables decay. `form`: see Adam."""

    elementwise: ClassVar[bool] = True
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    decay: float = 0.1
    decay_tables: bool = True
    form: Form = "fused"

    def __post_init__(self) -> None:
        at_least(self, 0.0, "rate", "eps", "decay")
        fractions(self, "betas")

    def build(self, module: nn.Module) -> Descent:
        return descent(self, module)

    def slots(self, weight: Tensor) -> dict[str, Tensor]:
        return {"first": torch.zeros_like(weight), "second": torch.zeros_like(weight)}

    def update(
        self, weights: list[Tensor], gradients: list[Tensor], slots: dict[str, list[Tensor]], pace: Pace
    ) -> None:
        if self.form == "fused" and fusible(weights, gradients):
            return fused(torch._fused_adamw_, weights, gradients, slots, pace, self.betas, self.eps)
        if self.form == "readable":
            for one in zip(weights, gradients, slots["first"], slots["second"], strict=True):
                adamw(*one, pace, self.betas, self.eps)
            return
        if pace.decay:
            torch._foreach_mul_(weights, 1 - pace.rate * pace.decay)
        adam_foreach(weights, gradients, slots, pace, self.betas, self.eps)


def adamw(
    weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor, pace: Pace, betas: tuple[float, float], eps: float
) -> None:
    """One weight, as the equations read; changes it and both means in place."""
    weight.mul_(1 - pace.rate * pace.decay)
    adam(weight, gradient, first, second, pace, betas, eps)
