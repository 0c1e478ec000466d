"""Stochastic gradient descent with momentum: a ball that rolls down the slope it meets.

Polyak 1964 (momentum); Nesterov 1983, as Sutskever et al. 2013 write it.
  v = momentum v + g (at first v = g);   w = w - rate v,   with Nesterov   w = w - rate (g + momentum v)
Decay, if any, is added to the gradient: g + decay w.
Departure: v starts at zero, which gives the same first v.   Read next: train/optimisers/adam.py
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.base.errors import BadInput
from cutaway.train.optimisers.descent import Descent, Pace, descent


@dataclass(frozen=True, kw_only=True)
class SGD:
    elementwise: ClassVar[bool] = True
    rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    decay: float = 0.0
    decay_tables: bool = True

    def __post_init__(self) -> None:
        at_least(self, 0.0, "rate", "decay")
        fractions(self, "momentum")
        if self.nesterov and not self.momentum:
            raise BadInput("Nesterov's way needs a momentum", field="SGD.nesterov")

    def build(self, module: nn.Module) -> Descent:
        return descent(self, module)

    def slots(self, weight: Tensor) -> dict[str, Tensor]:
        return {"velocity": torch.zeros_like(weight)} if self.momentum else {}

    def update(
        self, weights: list[Tensor], gradients: list[Tensor], slots: dict[str, list[Tensor]], pace: Pace
    ) -> None:
        if pace.decay:
            gradients = list(torch._foreach_add(gradients, weights, alpha=pace.decay))
        if self.momentum:
            velocities = slots["velocity"]
            torch._foreach_mul_(velocities, self.momentum)
            torch._foreach_add_(velocities, gradients)
            if self.nesterov:
                gradients = list(torch._foreach_add(gradients, velocities, alpha=self.momentum))
            else:
                gradients = velocities
        torch._foreach_add_(weights, gradients, alpha=-pace.rate)


def sgd(weight: Tensor, gradient: Tensor, velocity: Tensor, pace: Pace, momentum: float, nesterov: bool) -> None:
    """One weight, as the equations read; changes it and its velocity in place."""
    gradient = gradient + pace.decay * weight
    velocity.copy_(momentum * velocity + gradient)
    weight.sub_(pace.rate * (gradient + momentum * velocity if nesterov else velocity))
