"""The training loop, as a generator: whoever calls it logs, saves, samples and evaluates in its own `for` body.

    gradient = sum over micro-batches and machines of d(total)/d(weights) / global count;   clip;   step
Schedules, spike guards and averages wrap the optimiser, sharding and recomputation the module, before the loop.
Read next: train/loss.py, train/precision.py
"""

# The foreach functions, which torch's own optimisers stand on:
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.train.loss import Objective
from cutaway.train.precision import FULL, Precision
from cutaway.train.shards import shard
from cutaway.train.world import Alone, World


class Optimiser(Protocol):
    """What `fit` asks of an optimiser; torch's own have it too."""

    def zero_grad(self) -> None: ...
    def step(self) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step made. `index` counts from 1: so many steps have been made. `loss`: the mean over `count` items, all
    processes' together, and so are `metrics`.

    `norm`: the gradient's length before clipping. `tokens`: what went through the model on this machine.
    """

    index: int
    loss: float
    norm: float
    count: int
    tokens: int
    metrics: dict[str, float]


def fit(
    module: nn.Module,
    objective: Objective,
    batches: Iterable[Batch],
    optimiser: Optimiser,
    *,
    steps: int,
    start: int = 0,
    accumulate: int = 1,
    clip: float | None = 1.0,
    precision: Precision = FULL,
    world: World = Alone(),  # noqa: B008 (it holds nothing)
) -> Iterator[Step]:
    """Makes steps `start` + 1 to `steps`, each over `accumulate` batches; yields after each. Ends early with `batches`.

    `clip`: the greatest length of the gradient (None: no bound). `objective`'s sums are divided by the count of all
    micro-batches on all machines, so that 1 batch of 8 sequences and 8 batches of 1 give the same step.
    Raises BadInput for an objective that looks across items and is to be cut into micro-batches.
    """
    if accumulate > 1 and not objective.splits:
        raise BadInput(f"{type(objective).__name__} looks across items: it cannot be cut", field="accumulate")
    if accumulate < 1:
        raise BadInput(f"must be at least 1, is {accumulate}", field="accumulate")
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    stream, device = iter(batches), next(module.parameters()).device
    for index in range(start + 1, steps + 1):
        micro = list(islice(stream, accumulate))
        if len(micro) < accumulate:
            return
        if not module.training:
            module.train()  # the caller has evaluated
        optimiser.zero_grad()
        names, sums = [], []
        for batch in micro:
            with precision.compute(device):
                loss = objective(module, batch.to(device))
            precision.scaled(loss.total).backward()
            names, sums = [*loss.metrics], [*sums, loss.sums()]
        total, counted, *others = world.sum(torch.stack(sums).sum(0)).tolist()
        count = max(int(counted), 1)
        norm = _condition(weights, precision.factor * count / world.size, clip, world)
        precision.step(optimiser, norm)
        yield Step(
            index=index,
            loss=total / count,
            norm=norm,
            count=int(counted),
            tokens=sum(batch.tokens for batch in micro),
            metrics={name: other / count for name, other in zip(names, others, strict=True)},
        )


def _condition(weights: list[nn.Parameter], divisor: float, clip: float | None, world: World) -> float:
    """Divides all gradients and bounds their joint length, both at once; returns the length before the bound.

    The bound is that of torch's clip_grad_norm_. Gradients of no finite length are only divided.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return 0.0
    norm = world.length(gradients) / divisor
    bound = min(1.0, clip / (norm + 1e-6)) if clip is not None and math.isfinite(norm) else 1.0
    if bound != divisor:
        torch._foreach_mul_([shard(gradient) for gradient in gradients], bound / divisor)  # scaling needs no one else
    return norm
