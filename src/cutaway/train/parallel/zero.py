"""ZeRO by hand, on one flat vector of weights and Adam: what each stage no longer holds twice, and what it sends.

Rajbhandari et al. 2019 (arXiv 1910.02054), section 5; p processes.
  stage 0   all hold all;              gradients are summed everywhere                          2 (p - 1) / p sent
  stage 1   1/p of Adam's means;       summed everywhere, each moves its chunk, chunks are gathered    3 (p - 1) / p
  stage 2   and 1/p of the gradients;  summed to their owners, each moves its chunk, gathered          2 (p - 1) / p
  stage 3   and 1/p of the weights;    gathered forward and again backward, gradients to their owners  3 (p - 1) / p
Departures: the paper's stage 1 already sends gradients to their owners only; here that is the step to stage 2. The
vector is gathered whole where the paper gathers layer by layer: `held` counts what lies between steps.
Read next: train/parallel/ring.py, train/parallel/shard.py, lab/plan.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.train.optimisers.adam import Adam
from cutaway.train.optimisers.descent import Pace
from cutaway.train.parallel.ring import Ring

Loss = Callable[[Tensor], Tensor]


class Zero:
    """A vector of weights that p processes train together. `step` takes this process's loss as a function of them."""

    def __init__(self, weights: Tensor, rule: Adam, stage: int, group: dist.ProcessGroup | None = None):
        if stage not in (0, 1, 2, 3):
            raise BadInput(f"must be 0, 1, 2 or 3, is {stage}", field="Zero.stage")
        self.rule, self.stage, self.ring = rule, stage, Ring(group)
        self.shape, self.count = weights.shape, 0
        self.own = self._chunk(weights).clone()
        self.weights: Tensor | None = weights.clone() if stage < 3 else None
        self.gradients: Tensor | None = None
        self.slots = rule.slots(weights if stage == 0 else self.own)

    def step(self, loss: Loss) -> float:
        """One step of Adam on the sum of all processes' losses; returns this process's own."""
        self.count += 1
        weights = self._gathered().requires_grad_()
        value = loss(weights)
        if self.stage == 3:  # the weights were let go after the forward pass: the backward pass gathers them again
            weights.data.copy_(self._gathered())
        (gradients,) = torch.autograd.grad(value, weights)
        weights = weights.detach()
        if self.stage < 2:
            self.gradients = self.ring.all_reduce(gradients)
        else:
            self.gradients = self.ring.reduce_scatter(gradients).clone()
        self._move(weights)
        return float(value.detach())

    def held(self) -> dict[str, int]:
        """Numbers that lie on this process between steps."""
        tensors = {
            "weights": [self.own if self.weights is None else self.weights],
            "gradients": [] if self.gradients is None else [self.gradients],
            "state": list(self.slots.values()),
        }
        return {name: sum(tensor.numel() for tensor in held) for name, held in tensors.items()}

    def whole(self) -> Tensor:
        """All weights, gathered if need be."""
        return self._gathered().clone()

    @torch.no_grad()
    def _move(self, weights: Tensor) -> None:
        assert self.gradients is not None
        mine = weights if self.stage == 0 else self._chunk(weights)
        gradients = self.gradients if self.stage in (0, 2, 3) else self._chunk(self.gradients)
        pace = Pace(count=self.count, rate=self.rule.rate, decay=self.rule.decay)
        self.rule.update([mine], [gradients], {name: [slot] for name, slot in self.slots.items()}, pace)
        if self.stage == 3:
            self.own = mine.clone()
        else:
            self.weights = weights if self.stage == 0 else self.ring.all_gather(weights)

    def _gathered(self) -> Tensor:
        if self.weights is not None:
            return self.weights.clone()
        whole = torch.empty(self.shape, dtype=self.own.dtype, device=self.own.device)
        self._chunk(whole).copy_(self.own)
        return self.ring.all_gather(whole)

    def _chunk(self, vector: Tensor) -> Tensor:
        return self.ring.chunks(vector)[self.ring.place]
