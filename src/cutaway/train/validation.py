"""The mean loss over a whole split: every item weighs the same, however it was cut into batches.

    loss = (sum of all batches' totals) / (sum of all batches' counts)
Read next: train/loss.py, train/patience.py
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.train.loss import Objective
from cutaway.train.precision import FULL, Precision
from cutaway.train.world import Alone, World


@dataclass(frozen=True, kw_only=True)
class Score:
    """`loss` and `metrics`: means over `count` items."""

    loss: float
    count: int
    metrics: dict[str, float]

    @property
    def perplexity(self) -> float:
        """e^loss; infinite beyond what a float holds."""
        return math.exp(self.loss) if self.loss < 709 else math.inf


@torch.no_grad()
def validate(
    module: nn.Module,
    objective: Objective,
    batches: Iterable[Batch],
    *,
    precision: Precision = FULL,
    world: World = Alone(),  # noqa: B008 (it holds nothing)
) -> Score:
    """The mean over all `batches`, without dropout; the module trains again after if it did before.

    Sums are taken in float64 where they lie, and read once at the end. Each process of `world` brings batches of its
    own. Raises BadInput where there was nothing to score.
    """
    was, device = module.training, next(module.parameters()).device
    names: list[str] = []
    sums: torch.Tensor | None = None
    module.eval()
    try:
        for batch in batches:
            with precision.compute(device):
                loss = objective(module, batch.to(device))
            names, added = [*loss.metrics], loss.sums()
            sums = added if sums is None else sums + added
    finally:
        module.train(was)
    total, counted, *others = [0.0, 0.0] if sums is None else world.sum(sums).tolist()
    if counted == 0:
        raise BadInput("there is nothing to score", source="validation")
    metrics = {name: other / counted for name, other in zip(names, others, strict=True)}
    return Score(loss=total / counted, count=int(counted), metrics=metrics)
