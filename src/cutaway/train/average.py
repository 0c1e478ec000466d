"""Weight averaging: a slow copy of the weights, which often scores better than the weights themselves.

Polyak and Juditsky 1992; Tarvainen and Valpola 2017 (arXiv 1703.01780).   a = decay a + (1 - decay) w, after each step
With `warm`, decay = min(decay, (1 + t) / (10 + t)): the first averages are of few steps, not of the random start.
    average = Average(optimiser, module);   fit(module, objective, batches, average, ...)
    with average.taken(): validate(...)
Departure: buffers are not averaged; the models here have none that learn.   Read next: train/validation.py
"""

# The foreach functions, which torch's own optimisers stand on:
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.train.shards import shard

NAME, COUNT = "average.weight.", "average.count"


class Average:
    """An optimiser around another, which also keeps the average of the module's weights (in float32 or wider)."""

    def __init__(self, optimiser: Any, module: nn.Module, *, decay: float = 0.999, warm: bool = True):
        if not 0.0 <= decay < 1.0:
            raise BadInput(f"must be in [0, 1), is {decay}", field="Average.decay")
        self.optimiser, self.decay, self.warm, self.count = optimiser, decay, warm, 0
        learned = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self.names, self.weights = list(learned), list(learned.values())
        self.averages = [_wide(weight.detach()) for weight in self.weights]

    @property
    def rate(self) -> float:
        return self.optimiser.rate

    def scale(self, factor: float) -> None:
        self.optimiser.scale(factor)

    def zero_grad(self) -> None:
        self.optimiser.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        self.optimiser.step()
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count)) if self.warm else self.decay
        now = [shard(weight.detach()).to(kept.dtype) for weight, kept in zip(self.weights, self._here(), strict=True)]
        torch._foreach_lerp_(self._here(), now, 1 - decay)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """While this lasts, the module has the averages for weights; no step may be made."""
        held = [weight.detach().clone() for weight in self.weights]
        self._give(self.averages)
        try:
            yield
        finally:
            self._give(held)

    def state_dict(self) -> dict[str, Any]:
        kept = {NAME + name: average for name, average in zip(self.names, self.averages, strict=True)}
        return {**self.optimiser.state_dict(), **kept, COUNT: self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        inner = dict(state)
        for name in (COUNT, *(NAME + name for name in self.names)):
            if name not in inner:
                raise BadInput("is missing", field=name)
        self.count = int(inner.pop(COUNT))
        for name, average in zip(self.names, self.averages, strict=True):
            average.copy_(inner.pop(NAME + name))
        self.optimiser.load_state_dict(inner)

    def _here(self) -> list[Tensor]:
        return [shard(average) for average in self.averages]

    @torch.no_grad()
    def _give(self, values: list[Tensor]) -> None:
        for weight, value in zip(self.weights, values, strict=True):
            weight.copy_(value)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
