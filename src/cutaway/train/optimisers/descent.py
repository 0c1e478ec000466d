"""Weights in groups, each group moved by one rule: what every optimiser here is made of.

    for each group:   rule.update(weights, gradients, what the rule keeps of each, pace)
A weight without a gradient stays as it is, and its step is not counted. Where weights are sharded (DTensor), a rule
that works number by number sees its own shard alone; one that looks across a matrix is given the whole.
Read next: train/optimisers/adamw.py, train/optimisers/sorting.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.train.optimisers.sorting import sort
from cutaway.train.shards import cut, is_sharded, shard, whole


@dataclass(frozen=True, kw_only=True)
class Pace:
    """One step of a group: its number, from 1; the rate, with the schedule's factor in it; the decay of its weights."""

    count: int
    rate: float
    decay: float


class Rule(Protocol):
    """How weights move. `elementwise`: each number by itself, so that shards can be moved one by one."""

    elementwise: ClassVar[bool]

    @property
    def rate(self) -> float: ...

    def slots(self, weight: Tensor) -> dict[str, Tensor]:
        """What is kept of one weight, as it is before the first step."""
        ...

    def update(
        self, weights: list[Tensor], gradients: list[Tensor], slots: dict[str, list[Tensor]], pace: Pace
    ) -> None:
        """Moves the weights in place, and what is kept of them. Leaves the gradients as they are."""
        ...


class Decaying(Rule, Protocol):
    """A rule for all weights. `decay_tables`: whether token and position tables decay as matrices do."""

    @property
    def decay(self) -> float: ...
    @property
    def decay_tables(self) -> bool: ...


class Group:
    """The weights that one rule moves with one decay, by name."""

    def __init__(self, rule: Rule, named: Mapping[str, nn.Parameter], decay: float = 0.0):
        self.rule, self.decay = rule, decay
        self.names, self.weights = list(named), list(named.values())
        self.counts = [0] * len(self.weights)
        self.slots = [rule.slots(weight if rule.elementwise else _hollow(weight)) for weight in self.weights]

    def step(self, factor: float) -> None:
        together: dict[int, list[int]] = {}  # a weight that had no gradient at times lags behind: step by step number
        for index, weight in enumerate(self.weights):
            if weight.grad is not None:
                self.counts[index] += 1
                together.setdefault(self.counts[index], []).append(index)
        for count, indices in together.items():
            self._move(indices, Pace(count=count, rate=self.rule.rate * factor, decay=self.decay))

    def _move(self, indices: list[int], pace: Pace) -> None:
        weights = [self.weights[index].detach() for index in indices]
        gradients = [_dense(self.weights[index].grad, self.names[index]) for index in indices]
        slots = {name: [self.slots[index][name] for index in indices] for name in self.slots[indices[0]]}
        if not any(is_sharded(weight) for weight in weights):
            self.rule.update(weights, gradients, slots, pace)
        elif self.rule.elementwise:
            local = [shard(gradient, weight) for gradient, weight in zip(gradients, weights, strict=True)]
            kept = {name: [shard(held) for held in tensors] for name, tensors in slots.items()}
            self.rule.update([shard(weight) for weight in weights], local, kept, pace)
        else:
            gathered = [whole(weight) for weight in weights]
            self.rule.update(gathered, [whole(gradient) for gradient in gradients], slots, pace)
            for weight, moved in zip(weights, gathered, strict=True):
                weight.copy_(cut(moved, weight))


class Descent:
    """An optimiser. `scale` multiplies the rates of all groups from the next step on; schedules call it."""

    def __init__(self, groups: Sequence[Group]):
        self.groups = [group for group in groups if group.weights]
        if not self.groups:
            raise BadInput("there are no weights to train", field="module")
        self.factor = 1.0

    @property
    def rate(self) -> float:
        """The rate of the first group, as the next step will take it."""
        return self.groups[0].rule.rate * self.factor

    def scale(self, factor: float) -> None:
        self.factor = factor

    @torch.no_grad()
    def step(self) -> None:
        for group in self.groups:
            group.step(self.factor)

    def zero_grad(self) -> None:
        for group in self.groups:
            for weight in group.weights:
                weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Flat: `NAME.first` and the like, live tensors; `NAME.count`, the steps made; `factor`."""
        state: dict[str, Any] = {"factor": self.factor}
        for group in self.groups:
            for name, count, slots in zip(group.names, group.counts, group.slots, strict=True):
                state[f"{name}.count"] = count
                state |= {f"{name}.{slot}": held for slot, held in slots.items()}
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a `state_dict`, copying. Raises BadInput, and changes nothing, where one does not fit."""
        held = self.state_dict()
        if held.keys() != state.keys():
            name = min(held.keys() ^ state.keys())
            raise BadInput("is missing" if name in held else "belongs to no weight here", field=name)
        for name, now in held.items():
            shape, given = getattr(now, "shape", None), getattr(state[name], "shape", None)
            if shape != given:
                raise BadInput(f"has shape {given}, this model's has {shape}", field=name)
        for name, now in held.items():
            if isinstance(now, Tensor):
                now.copy_(state[name])
        for group in self.groups:
            group.counts = [int(state[f"{name}.count"]) for name in group.names]
        self.factor = float(state["factor"])


def descent(rule: Decaying, module: nn.Module) -> Descent:
    """One rule for all weights of a module; those that do not decay (see sorting.py) are a group of their own."""
    weights = sort(module)
    decayed = Group(rule, weights.decayed(rule.decay_tables), rule.decay)
    return Descent([decayed, Group(rule, weights.undecayed(rule.decay_tables))])


def _dense(gradient: Tensor | None, name: str) -> Tensor:
    assert gradient is not None
    if gradient.is_sparse:
        raise BadInput("a sparse gradient cannot be used here", field=name)
    return gradient.detach()


def _hollow(weight: Tensor) -> Tensor:
    """A tensor of the weight's whole shape, whatever part of it lies here, and of no content."""
    return torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
