"""The training loop, as a generator: whoever calls it logs, saves, samples and evaluates in its own `for` body.

    gradient = sum over micro-batches and machines of d(total)/d(weights) / global count;   clip;   step
Schedules, spike guards and averages wrap the optimiser, sharding and recomputation the module, before the loop.
Read next: train/loss.py, train/precision.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

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
    """One step made. `index` counts from 1: so many steps have been made. `loss`: the mean over `count` items.

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
    stream, device = iter(batches), next(module.parameters()).device
    for index in range(start + 1, steps + 1):
        micro = list(islice(stream, accumulate))
        if len(micro) < accumulate:
            return
        module.train()  # the caller may have evaluated
        optimiser.zero_grad()
        sums: dict[str, Tensor] = {}
        for batch in micro:
            with precision.compute(device):
                loss = objective(module, batch.to(device))
            precision.scaled(loss.total).backward()
            counted = torch.tensor(float(loss.count), device=device)
            for name, value in {"loss": loss.total.detach(), "count": counted, **loss.metrics}.items():
                sums[name] = sums.get(name, 0.0) + value.double()
        summed = world.sum(torch.stack(list(sums.values())))
        whole = dict(zip(sums, summed.tolist(), strict=True))
        count = int(whole.pop("count"))
        norm = _condition(module, precision.factor * max(count, 1) / world.size, clip, world)
        precision.step(optimiser, norm)
        mean = {name: value / max(count, 1) for name, value in whole.items()}
        tokens = sum(batch.tokens for batch in micro)
        yield Step(index=index, loss=mean.pop("loss"), norm=norm, count=count, tokens=tokens, metrics=mean)


def _condition(module: nn.Module, divisor: float, clip: float | None, world: World) -> float:
    """Divides all gradients, then bounds their joint length; returns the length before the bound."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if not gradients:
        return 0.0
    here = [shard(gradient) for gradient in gradients]  # scaling needs no one else
    torch._foreach_div_(here, divisor)
    norm = world.length(gradients)
    if clip is not None and norm > clip:
        torch._foreach_mul_(here, clip / norm)
    return norm
