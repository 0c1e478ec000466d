"""Adam: each number moves by its gradient's mean over the root of its gradient's mean square.

Kingma and Ba 2014 (arXiv 1412.6980), algorithm 1, with
  m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2;   w = w - rate * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
The divisors undo the bias of two means that start at zero. Decay, if any, is added to the gradient (g + decay w), as in
the L2 penalty; for decay beside it see AdamW.
Read next: train/optimisers/adamw.py, train/optimisers/descent.py
"""

# pyright: reportPrivateImportUsage=false
# torch has its multi-tensor operations and fused kernels under names with an underscore only.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.train.optimisers.descent import Descent, Pace, descent

Form = Literal["readable", "foreach", "fused"]
KERNELS = {"cpu", "cuda"}  # devices for which torch has the fused kernel


@dataclass(frozen=True, kw_only=True)
class Adam:
    """`form`: one weight at a time; one operation for all weights at a time; all in one kernel, where there is one."""

    elementwise: ClassVar[bool] = True
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay: float = 0.0
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
            return fused(torch._fused_adam_, weights, gradients, slots, pace, self.betas, self.eps)
        if pace.decay:
            gradients = list(torch._foreach_add(gradients, weights, alpha=pace.decay))
        if self.form == "readable":
            for one in zip(weights, gradients, slots["first"], slots["second"], strict=True):
                adam(*one, pace, self.betas, self.eps)
            return
        adam_foreach(weights, gradients, slots, pace, self.betas, self.eps)


def adam(
    weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor, pace: Pace, betas: tuple[float, float], eps: float
) -> None:
    """One weight, as the equations read; changes it and both means in place."""
    first.copy_(betas[0] * first + (1 - betas[0]) * gradient)
    second.copy_(betas[1] * second + (1 - betas[1]) * gradient**2)
    mean, square = first / (1 - betas[0] ** pace.count), second / (1 - betas[1] ** pace.count)
    weight.sub_(pace.rate * mean / (square.sqrt() + eps))


def adam_foreach(
    weights: list[Tensor],
    gradients: list[Tensor],
    slots: dict[str, list[Tensor]],
    pace: Pace,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """All weights, one operation at a time. Multiplying the fraction by sqrt(1 - b2^t) saves one pass over memory."""
    root = (1 - betas[1] ** pace.count) ** 0.5
    torch._foreach_lerp_(slots["first"], gradients, 1 - betas[0])
    torch._foreach_mul_(slots["second"], betas[1])
    torch._foreach_addcmul_(slots["second"], gradients, gradients, 1 - betas[1])
    below = torch._foreach_sqrt(slots["second"])
    torch._foreach_add_(below, eps * root)
    torch._foreach_addcdiv_(weights, slots["first"], below, -pace.rate * root / (1 - betas[0] ** pace.count))


def fusible(weights: list[Tensor], gradients: list[Tensor]) -> bool:
    """Whether torch's kernel takes them: all of one kind, on a device that has it."""
    kinds = {(one.device, one.dtype) for one in (*weights, *gradients)}
    return len(kinds) == 1 and weights[0].device.type in KERNELS and weights[0].is_floating_point()


def fused(
    kernel: Callable[..., None],
    weights: list[Tensor],
    gradients: list[Tensor],
    slots: dict[str, list[Tensor]],
    pace: Pace,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Every number is read once and written once: where memory is the bound, several times as fast as `foreach`."""
    count = torch.full((), float(pace.count), device=weights[0].device)
    kernel(
        weights,
        gradients,
        slots["first"],
        slots["second"],
        [],
        [count] * len(weights),
        lr=pace.rate,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=pace.decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )
