"""What a training step computes in: float32, bfloat16, or float16 with its loss scaled.

Micikevicius et al. 2017 (arXiv 1710.03740): weights and their updates stay in float32, products are taken in half
precision. float16 ends at 6e-8: small gradients would vanish, so the loss is multiplied by a large factor before the
backward pass and the gradients divided by it after (section 3.2). The factor is sought: doubled after some thousand
steps that went well, halved after one that overflowed, which is left out.
bfloat16 has the range of float32 and needs no factor.   Read next: train/fit.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean


class Precision(Protocol):
    """`factor`: what the loss, and so the gradient, is multiplied by. `step` decides whether a step is made."""

    @property
    def factor(self) -> float: ...
    def compute(self, device: torch.device) -> AbstractContextManager[Any]: ...
    def scaled(self, total: Tensor) -> Tensor: ...
    def step(self, optimiser: Any, norm: float) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Full:
    """The weights' own precision."""

    factor = 1.0

    def compute(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext()

    def scaled(self, total: Tensor) -> Tensor:
        return total

    def step(self, optimiser: Any, norm: float) -> None:
        optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Bfloat16(Full):
    """Products in bfloat16, by torch's autocast."""

    def compute(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16)


class Float16:
    """Products in float16, by torch's autocast; the loss times `factor`.

    `growth` steps that went well double the factor, one whose gradient is not finite halves it and is not made:
    neither the optimiser nor a schedule around it sees it. `skipped` counts those. What is multiplied is a sum over
    items: where others begin with 65,536 times a mean over 64 items, this is the same.
    """

    def __init__(self, *, factor: float = 2.0**10, growth: int = 2000):
        if not 0.0 < factor < math.inf or growth < 1:
            raise BadInput("factor and growth must be above 0", field="Float16")
        self.factor, self.growth = factor, growth
        self.good, self.skipped = 0, 0

    def compute(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.float16)

    def scaled(self, total: Tensor) -> Tensor:
        return total * self.factor

    def step(self, optimiser: Any, norm: float) -> None:
        if not math.isfinite(norm):
            self.factor, self.good, self.skipped = self.factor / 2, 0, self.skipped + 1
            return
        optimiser.step()
        self.good += 1
        if self.good == self.growth:
            self.factor, self.good = self.factor * 2, 0

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor, "good": self.good, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.factor, self.good, self.skipped = float(state["factor"]), int(state["good"]), int(state["skipped"])


FULL = Full()

# The names by which a recipe or a command line chooses.
NAMED: Mapping[str, Callable[[], Precision]] = MappingProxyType(
    {"float32": Full, "bfloat16": Bfloat16, "float16": Float16}
)


def named(name: str) -> Precision:
    """A new precision by its name; an unknown one is BadInput."""
    if name not in NAMED:
        raise BadInput(f'no precision "{name}"{did_you_mean(name, NAMED)}', field="precision")
    return NAMED[name]()
