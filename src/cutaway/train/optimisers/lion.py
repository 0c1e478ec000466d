"""Lion: each number moves by the same step, up or down; only the sign of a mean of gradients says which.

Chen et al. 2023 (arXiv 2302.06675), algorithm 2, found by search over programs.
  w = w - rate * (sign(b1 m + (1 - b1) g) + decay w);   then m = b2 m + (1 - b2) g
One mean instead of Adam's two. The paper's rates are 3 to 10 times smaller than AdamW's, its decay as much larger.
Read next: train/optimisers/adamw.py
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.train.optimisers.descent import Descent, Pace, descent


@dataclass(frozen=True, kw_only=True)
class Lion:
    elementwise: ClassVar[bool] = True
    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 1.0
    decay_tables: bool = True

    def __post_init__(self) -> None:
        at_least(self, 0.0, "rate", "decay")
        fractions(self, "betas")

    def build(self, module: nn.Module) -> Descent:
        return descent(self, module)

    def slots(self, weight: Tensor) -> dict[str, Tensor]:
        return {"mean": torch.zeros_like(weight)}

    def update(
        self, weights: list[Tensor], gradients: list[Tensor], slots: dict[str, list[Tensor]], pace: Pace
    ) -> None:
        if pace.decay:
            torch._foreach_mul_(weights, 1 - pace.rate * pace.decay)
        signs = torch._foreach_lerp(slots["mean"], gradients, 1 - self.betas[0])
        torch._foreach_sign_(signs)
        torch._foreach_add_(weights, signs, alpha=-pace.rate)
        torch._foreach_lerp_(slots["mean"], gradients, 1 - self.betas[1])


def lion(weight: Tensor, gradient: Tensor, mean: Tensor, pace: Pace, betas: tuple[float, float]) -> None:
    """One weight, as the equations read; changes it and its mean in place."""
    sign = (betas[0] * mean + (1 - betas[0]) * gradient).sign()
    weight.sub_(pace.rate * (sign + pace.decay * weight))
    mean.copy_(betas[1] * mean + (1 - betas[1]) * gradient)
