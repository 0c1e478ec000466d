"""Schedules: what the base rate is multiplied by at each step. Values that are functions of the step's number, from 1.

All begin with a linear warm-up, index / warmup, which is over at index = warmup (Goyal et al. 2017, arXiv 1706.02677).
  Cosine (arXiv 1608.03983)         floor + (1 - floor) (1 + cos(pi p)) / 2;   p goes from 0 to 1 after the warm-up
  Linear                            1 - (1 - floor) p
  InverseSquareRoot (1706.03762)    min(index / warmup, sqrt(warmup / index)): section 5.3 but for its constant
  WarmupStableDecay (2404.06395)    1, then over the last `decay` steps down to floor
Read next: train/optimisers/descent.py, train/fit.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput


class Schedule(Protocol):
    def __call__(self, index: int) -> float:
        """The factor at step `index`, the first of which is 1."""
        ...


class Scalable(Protocol):
    """An optimiser whose rates can be multiplied."""

    @property
    def rate(self) -> float: ...
    def scale(self, factor: float) -> None: ...
    def step(self) -> Any: ...
    def zero_grad(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Scheduled:
    """An optimiser whose rates follow a schedule. It counts the steps made, and keeps the count in its state."""

    def __init__(self, optimiser: Scalable, schedule: Schedule):
        self.optimiser, self.schedule = optimiser, schedule
        self.count, self.factor = 0, 1.0

    @property
    def rate(self) -> float:
        """The rate of the last step made (before the first: of the first)."""
        return self.optimiser.rate

    def scale(self, factor: float) -> None:
        """Multiplies the schedule."""
        self.factor = factor

    def step(self) -> None:
        self.count += 1
        self.optimiser.scale(self.factor * self.schedule(self.count))
        self.optimiser.step()

    def zero_grad(self) -> None:
        self.optimiser.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {**self.optimiser.state_dict(), "schedule.count": self.count, "schedule.factor": self.factor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        inner = dict(state)
        try:
            count, factor = int(inner.pop("schedule.count")), float(inner.pop("schedule.factor"))
        except KeyError as error:
            raise BadInput("is missing", field=str(error.args[0])) from error
        self.optimiser.load_state_dict(inner)
        self.count, self.factor = count, factor


def _check(schedule: Any) -> None:
    name = type(schedule).__name__
    if hasattr(schedule, "steps"):
        at_least(schedule, 1, "steps")
    at_least(schedule, 0, "warmup")
    if hasattr(schedule, "steps") and schedule.steps <= schedule.warmup:
        raise BadInput(f"the warm-up of {schedule.warmup} steps leaves none of {schedule.steps}", field=f"{name}.steps")
    if hasattr(schedule, "floor") and not 0.0 <= schedule.floor <= 1.0:
        raise BadInput(f"must be in [0, 1], is {schedule.floor}", field=f"{name}.floor")


def _rise(index: int, warmup: int) -> float:
    return index / warmup if index < warmup else 1.0


def _passed(index: int, first: int, last: int) -> float:
    """0 at `first`, 1 at `last`, and no more behind it."""
    return min(max((index - first) / (last - first), 0.0), 1.0)


@dataclass(frozen=True, kw_only=True)
class Constant:
    warmup: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, index: int) -> float:
        return _rise(index, self.warmup)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """`floor` is reached at step `steps` and kept."""

    steps: int
    warmup: int = 0
    floor: float = 0.1

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, index: int) -> float:
        turn = math.cos(math.pi * _passed(index, self.warmup, self.steps))
        return _rise(index, self.warmup) * (self.floor + (1 - self.floor) * (1 + turn) / 2)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """`floor` is reached at step `steps` and kept."""

    steps: int
    warmup: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, index: int) -> float:
        return _rise(index, self.warmup) * (1 - (1 - self.floor) * _passed(index, self.warmup, self.steps))


@dataclass(frozen=True, kw_only=True)
class InverseSquareRoot:
    """The original Transformer's. `scale` is the factor at the top; the paper's is 1 / sqrt(dim * warmup), rate 1."""

    warmup: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, 1, "warmup")
        at_least(self, 0, "scale")

    @classmethod
    def of_paper(cls, dim: int, warmup: int = 4000) -> InverseSquareRoot:
        """dim^-0.5 min(index^-0.5, index warmup^-1.5), for an optimiser whose rate is 1."""
        return cls(warmup=warmup, scale=(dim * warmup) ** -0.5)

    def __call__(self, index: int) -> float:
        return self.scale * min(index / self.warmup, (self.warmup / max(index, 1)) ** 0.5)


@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay:
    """`decay`: how many of the last steps lead down, in a straight line or as 1 - sqrt(p) (arXiv 2405.18392)."""

    steps: int
    decay: int
    warmup: int = 0
    floor: float = 0.0
    shape: Literal["linear", "root"] = "linear"

    def __post_init__(self) -> None:
        _check(self)
        at_least(self, 1, "decay")
        if self.decay > self.steps - self.warmup:
            message = f"{self.warmup} steps up and {self.decay} down are more than {self.steps}"
            raise BadInput(message, field="WarmupStableDecay.decay")

    def __call__(self, index: int) -> float:
        passed = _passed(index, self.steps - self.decay, self.steps)
        down = passed**0.5 if self.shape == "root" else passed
        return _rise(index, self.warmup) * (1 - (1 - self.floor) * down)
