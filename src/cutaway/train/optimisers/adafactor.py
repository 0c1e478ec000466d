"""Adafactor: of the squared gradients of a matrix, only the mean of each row and each column is kept.

Shazeer and Stern 2018 (arXiv 1804.04235), algorithms 4 and 5.   b_t = 1 - t^decay_rate
  r = b_t r + (1 - b_t) mean over columns of (g^2 + eps_1);   c likewise over rows;   v = r c / mean(r)
  u = g / sqrt(v);   u = u / max(1, rms(u) / clip);   w = w - max(eps_2, rms(w)) * min(rate, 1 / sqrt(t)) * u
A vector keeps its v whole. With `relative=False` the step is `rate` itself (as T5's fine-tuning has it).
Departures: means where the paper has sums, which comes to the same; `decay` shrinks matrices beside the step, as AdamW
does. A matrix that is sharded is gathered for the step.
Read next: train/optimisers/descent.py
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.train.optimisers.descent import Descent, Group, Pace
from cutaway.train.optimisers.sorting import sort


@dataclass(frozen=True, kw_only=True)
class Adafactor:
    """`eps`: what is added to squared gradients, and the least size that a weight counts as having."""

    elementwise: ClassVar[bool] = False
    rate: float = 1e-2
    decay_rate: float = -0.8
    eps: tuple[float, float] = (1e-30, 1e-3)
    clip: float = 1.0
    relative: bool = True
    decay: float = 0.0
    decay_tables: bool = True

    def __post_init__(self) -> None:
        at_least(self, 0.0, "rate", "decay")
        if not -1.0 <= self.decay_rate < 0.0:
            raise BadInput(f"must be in [-1, 0), is {self.decay_rate}", field="Adafactor.decay_rate")
        if not self.clip > 0.0:
            raise BadInput(f"must be positive, is {self.clip}", field="Adafactor.clip")

    def build(self, module: nn.Module) -> Descent:
        weights = sort(module)
        tables = Group(self, weights.tables, self.decay if self.decay_tables else 0.0)
        return Descent([Group(self, weights.matrices, self.decay), tables, Group(self, weights.vectors)])

    def slots(self, weight: Tensor) -> dict[str, Tensor]:
        if weight.ndim < 2:
            return {"square": torch.zeros_like(weight)}
        rows, columns = (*weight.shape[:-1], 1), (*weight.shape[:-2], 1, weight.shape[-1])
        return {"row": weight.new_zeros(rows), "column": weight.new_zeros(columns)}

    def update(
        self, weights: list[Tensor], gradients: list[Tensor], slots: dict[str, list[Tensor]], pace: Pace
    ) -> None:
        fresh = pace.count**self.decay_rate  # 1 - b_t: how much of the old mean gives way
        squares = list(torch._foreach_mul(gradients, gradients))
        torch._foreach_add_(squares, self.eps[0])
        if "row" in slots:
            torch._foreach_lerp_(slots["row"], [square.mean(-1, keepdim=True) for square in squares], fresh)
            torch._foreach_lerp_(slots["column"], [square.mean(-2, keepdim=True) for square in squares], fresh)
            means = [row.mean(-2, keepdim=True) for row in slots["row"]]
            scaled = torch._foreach_div(slots["row"], means)
            updates = [row * column for row, column in zip(scaled, slots["column"], strict=True)]
        else:
            torch._foreach_lerp_(slots["square"], squares, fresh)
            updates = [square.clone() for square in slots["square"]]
        torch._foreach_rsqrt_(updates)
        torch._foreach_mul_(updates, gradients)
        steps = [
            -self._rate(size, pace) / max(1.0, length / self.clip)
            for size, length in zip(_sizes(weights), _sizes(updates), strict=True)
        ]
        torch._foreach_mul_(updates, steps)
        if pace.decay:
            torch._foreach_mul_(weights, 1 - pace.rate * pace.decay)
        torch._foreach_add_(weights, updates)

    def _rate(self, size: float, pace: Pace) -> float:
        return max(self.eps[1], size) * min(pace.rate, pace.count**-0.5) if self.relative else pace.rate


def _sizes(tensors: list[Tensor]) -> list[float]:
    """The root mean square of each; one wait for the device, not one for each."""
    lengths = torch.stack(torch._foreach_norm(tensors)).tolist()
    return [length / max(tensor.numel(), 1) ** 0.5 for length, tensor in zip(lengths, tensors, strict=True)]


def adafactor(weight: Tensor, gradient: Tensor, slots: dict[str, Tensor], pace: Pace, rule: Adafactor) -> None:
    """One weight, as the equations read; changes it and what is kept of it in place."""
    old = 1 - pace.count**rule.decay_rate
    square = gradient**2 + rule.eps[0]
    if weight.ndim >= 2:
        slots["row"].copy_(old * slots["row"] + (1 - old) * square.mean(-1, keepdim=True))
        slots["column"].copy_(old * slots["column"] + (1 - old) * square.mean(-2, keepdim=True))
        estimate = slots["row"] * slots["column"] / slots["row"].mean(-2, keepdim=True)
    else:
        slots["square"].copy_(old * slots["square"] + (1 - old) * square)
        estimate = slots["square"]
    update = gradient / estimate.sqrt()
    update = update / max(1.0, _rms(update) / rule.clip)
    step = max(rule.eps[1], _rms(weight)) * min(pace.rate, pace.count**-0.5) if rule.relative else pace.rate
    weight.copy_((1 - pace.rate * pace.decay) * weight - step * update)


def _rms(tensor: Tensor) -> float:
    return float(tensor.square().mean().sqrt())
