"""Muon: the momentum of a hidden matrix, turned into the nearest matrix that stretches all directions alike.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/muon).
  m = b m + (1 - b) g;   u = (1 - b) g + b m (Nesterov);   with u = U S V^T, the step is U V^T, by five rounds of
  X = a X + (b X X^T + c (X X^T)^2) X,   X = u / |u|,   (a, b, c) = (3.4445, -4.7750, 2.0315)
whose singular values end near 1 (0.7 to 1.2), not at 1: the coefficients were chosen for speed.
  w = (1 - rate * decay) w - rate * scale * U V^T
`scale`: "jordan" sqrt(max(1, rows / columns)); "moonlight" 0.2 sqrt(max(rows, columns)), with which the step has the
size of AdamW's, so that AdamW's rate and decay fit (Liu et al. 2025, arXiv 2502.16982, equation 4).
Tables, head, norms and biases go by AdamW. Matrices of one shape are turned together. A sharded matrix is gathered.
Read next: train/optimisers/sorting.py, train/optimisers/adamw.py
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.base.errors import BadInput
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.optimisers.descent import Descent, Group, Pace
from cutaway.train.optimisers.sorting import sort

QUINTIC = (3.4445, -4.7750, 2.0315)
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Muon:
    """`rest`: what moves everything but the hidden matrices. `rounds` of Newton-Schulz run in `precision`."""

    elementwise: ClassVar[bool] = False
    rate: float = 0.02
    momentum: float = 0.95
    nesterov: bool = True
    decay: float = 0.0
    rounds: int = 5
    scale: Literal["jordan", "moonlight"] = "jordan"
    precision: Literal["bfloat16", "float32", "float64"] = "bfloat16"
    rest: AdamW = field(default_factory=lambda: AdamW(rate=3e-4))

    def __post_init__(self) -> None:
        at_least(self, 0.0, "rate", "decay")
        at_least(self, 1, "rounds")
        fractions(self, "momentum")

    def build(self, module: nn.Module) -> Descent:
        weights, rest = sort(module), self.rest
        if not weights.hidden:
            raise BadInput("there is no hidden matrix (a linear map inside `blocks`) to move", field="Muon")
        others = {
            name: weight for name, weight in weights.decayed(rest.decay_tables).items() if name not in weights.hidden
        }
        return Descent(
            [
                Group(self, weights.hidden, self.decay),
                Group(rest, others, rest.decay),
                Group(rest, weights.undecayed(rest.decay_tables)),
            ]
        )

    def slots(self, weight: Tensor) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(weight)}

    def update(
        self, weights: list[Tensor], gradients: list[Tensor], slots: dict[str, list[Tensor]], pace: Pace
    ) -> None:
        torch._foreach_lerp_(slots["momentum"], gradients, 1 - self.momentum)
        updates = slots["momentum"]
        if self.nesterov:
            updates = list(torch._foreach_lerp(gradients, updates, self.momentum))
        if pace.decay:
            torch._foreach_mul_(weights, 1 - pace.rate * pace.decay)
        alike: dict[torch.Size, list[int]] = {}
        for index, weight in enumerate(weights):
            alike.setdefault(weight.shape, []).append(index)
        for shape, indices in alike.items():
            stacked = torch.stack([updates[index] for index in indices]).to(DTYPES[self.precision])
            turned = orthogonal(stacked, self.rounds).to(weights[indices[0]].dtype)
            step = -pace.rate * per_matrix(shape, self.scale)
            torch._foreach_add_([weights[index] for index in indices], list(turned.unbind()), alpha=step)


def per_matrix(shape: torch.Size, scale: str) -> float:
    """What the step of a matrix (rows, columns) is multiplied by; see above."""
    rows, columns = shape
    return max(1.0, rows / columns) ** 0.5 if scale == "jordan" else 0.2 * max(rows, columns) ** 0.5


def orthogonal(x: Tensor, rounds: int = 5, eps: float = 1e-7) -> Tensor:
    """Matrices (..., rows, columns) with their singular values brought near 1 and their directions kept.

    An odd polynomial of X acts on its singular values alone: (X X^T) X = U S^3 V^T. A zero matrix stays zero.
    """
    a, b, c = QUINTIC
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT.contiguous() if tall else x  # the square products are then of the smaller side
    shape, x = x.shape, x.reshape(-1, *x.shape[-2:])
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(rounds):
        square = x @ x.mT
        square = torch.baddbmm(square, square, square, beta=b, alpha=c)  # b X X^T + c (X X^T)^2
        x = torch.baddbmm(x, square, x, beta=a)
    x = x.reshape(shape)
    return x.mT if tall else x


def muon(weight: Tensor, gradient: Tensor, momentum: Tensor, pace: Pace, rule: Muon) -> None:
    """One matrix, as the equations read; changes it and its momentum in place."""
    beta = rule.momentum
    momentum.copy_(beta * momentum + (1 - beta) * gradient)
    update = (1 - beta) * gradient + beta * momentum if rule.nesterov else momentum
    turned = orthogonal(update.to(DTYPES[rule.precision]), rule.rounds).to(weight.dtype)
    kept = (1 - pace.rate * pace.decay) * weight
    weight.copy_(kept - pace.rate * per_matrix(weight.shape, rule.scale) * turned)
