"""A guard against bad steps: it sees a loss or a gradient that is not finite or far out of line, and makes no step.

Chowdhery et al. 2022 (PaLM, arXiv 2204.02311, section 5.1): spikes are passed by going back to an earlier state and
around the batches that brought them.   spike: value > median + width * 1.4826 MAD, over the last `window` good steps
One bad step is left out: weights, moments and schedule are as if its batch had never been. After `patience` in a row
the weights themselves must have suffered: all goes back to the last copy, and on with the batches that follow.
    guard = Guard(module);   fit(module, guard.watch(objective), batches, optimiser, precision=guard.hold(precision))
Read next: train/precision.py, train/fit.py
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput, CutawayError
from cutaway.data.batch import Batch
from cutaway.train.loss import Loss, Objective
from cutaway.train.precision import FULL, Precision
from cutaway.train.world import Alone, World

NORMAL = 1.4826  # a normal distribution's deviation in median absolute deviations
LOSS_MARGIN = 0.1  # of the median: nearer than that nothing is a spike, however even the losses were
NORM_MARGIN = math.log(4.0)  # gradients' lengths are compared by their logarithms, and vary by more


@dataclass(frozen=True, kw_only=True)
class Event:
    """What was wrong with the step that would have been number `step` of this guard's, and what was done."""

    step: int
    loss: float
    norm: float
    cause: Literal["loss not finite", "gradient not finite", "loss spike", "gradient spike"]
    done: Literal["skipped", "rolled back"]

    def __str__(self) -> str:
        return f"step {self.step} {self.done}: {self.cause} (loss {self.loss:.4g}, gradient {self.norm:.4g})"


class Guard:
    """`keep`: good steps between two copies of weights and optimiser state, which lie beside the weights; None: no
    copies, and bad steps are only left out. `width`: how far out of line a spike is.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        window: int = 100,
        width: float = 6.0,
        patience: int = 3,
        keep: int | None = 50,
        world: World = Alone(),  # noqa: B008 (it holds nothing)
    ):
        if window < 2 or patience < 1 or width <= 0 or (keep is not None and keep < 1):
            raise BadInput("window, width, patience and keep must be above 0", field="Guard")
        self.module, self.width, self.patience, self.keep, self.world = module, width, patience, keep, world
        self.losses: deque[float] = deque(maxlen=window)
        self.norms: deque[float] = deque(maxlen=window)
        self.step, self.bad, self.returns, self.age = 0, 0, 0, 0
        self.copy: dict[str, Any] | None = None
        self.events: list[Event] = []
        self._told = 0
        self._seen: list[Tensor] = []

    def watch(self, objective: Objective) -> Watched:
        """The same objective, whose losses in training the guard sees."""
        return Watched(objective, self)

    def hold(self, precision: Precision = FULL) -> Held:
        """The same precision, which makes only the steps that the guard lets pass."""
        return Held(precision, self)

    def news(self) -> list[Event]:
        """The events since this was last asked."""
        fresh, self._told = self.events[self._told :], len(self.events)
        return fresh

    def decide(self, optimiser: Any, norm: float, *, scaled: bool = False) -> bool:
        """Whether the step may be made; if not, it is written down, and all goes back where patience has ended.

        `scaled`: the loss was multiplied by a factor, which may be why the gradient is not finite.
        """
        self.step += 1
        total, count = self.world.sum(torch.stack(self._seen).sum(0)).tolist()
        self._seen.clear()
        loss = total / max(count, 1)
        if scaled and math.isfinite(loss) and not math.isfinite(norm):
            return True  # the precision will see it, skip the step, and take a smaller factor
        cause = self._cause(loss, norm)
        if cause is None:
            self._good(optimiser, loss, norm)
            return True
        self.bad += 1
        back = self.bad >= self.patience and self.copy is not None
        event = Event(step=self.step, loss=loss, norm=norm, cause=cause, done="rolled back" if back else "skipped")
        self.events.append(event)
        if self.bad >= self.patience:
            self._return(optimiser, event)
        return False

    def state_dict(self) -> dict[str, Any]:
        """What was seen; not the copy, since a checkpoint is one."""
        counts = {name: getattr(self, name) for name in ("step", "bad", "returns")}
        return {**counts, "losses": list(self.losses), "norms": list(self.norms)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("step", "bad", "returns"):
            setattr(self, name, int(state[name]))
        self.losses = deque(state["losses"], maxlen=self.losses.maxlen)
        self.norms = deque(state["norms"], maxlen=self.norms.maxlen)
        self.copy = None

    def _cause(self, loss: float, norm: float) -> Any:
        if not math.isfinite(loss):
            return "loss not finite"
        if not math.isfinite(norm):
            return "gradient not finite"
        if self._spike(loss, self.losses, LOSS_MARGIN * abs(median(self.losses or [0.0]))):
            return "loss spike"
        return "gradient spike" if self._spike(_log(norm), self.norms, NORM_MARGIN) else None

    def _spike(self, value: float, before: deque[float], margin: float) -> bool:
        if len(before) < (before.maxlen or 0) // 2:  # too few to know what is usual
            return False
        middle = median(before)
        spread = NORMAL * median(abs(one - middle) for one in before)
        return value > middle + max(self.width * spread, margin)

    def _good(self, optimiser: Any, loss: float, norm: float) -> None:
        # The copy is of weights that have just shown a usual loss, before the step whose outcome nobody knows yet.
        if self.keep is not None and (self.copy is None or self.age >= self.keep):
            state = {"module": self.module.state_dict(), "optimiser": optimiser.state_dict()}
            self.copy, self.age = _cloned(state), 0
        self.age += 1
        self.bad = self.returns = 0
        self.losses.append(loss)
        self.norms.append(_log(norm))

    def _return(self, optimiser: Any, event: Event) -> None:
        self.bad, self.returns = 0, self.returns + 1
        if self.returns > 1 or (self.copy is None and event.cause.endswith("finite")):
            raise CutawayError(f"training has diverged; the last of many bad steps: {event}")
        # If what comes is no better, that is how the data are now: it is to be learned, not passed by.
        self.losses.clear()
        self.norms.clear()
        if self.copy is not None:
            self.module.load_state_dict(self.copy["module"])
            optimiser.load_state_dict(_cloned(self.copy["optimiser"]))


class Watched:
    """An objective that tells a guard its losses."""

    def __init__(self, objective: Objective, guard: Guard):
        self.objective, self.guard, self.splits = objective, guard, objective.splits

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        loss = self.objective(module, batch)
        if module.training:
            self.guard._seen.append(loss.sums()[:2])
        return loss


class Held:
    """A precision whose steps are a guard's to allow."""

    def __init__(self, precision: Precision, guard: Guard):
        self.precision, self.guard = precision, guard

    @property
    def factor(self) -> float:
        return self.precision.factor

    def compute(self, device: torch.device) -> AbstractContextManager[Any]:
        return self.precision.compute(device)

    def scaled(self, total: Tensor) -> Tensor:
        return self.precision.scaled(total)

    def step(self, optimiser: Any, norm: float) -> None:
        if self.guard.decide(optimiser, norm, scaled=self.factor != 1.0):
            self.precision.step(optimiser, norm)

    def state_dict(self) -> dict[str, Any]:
        return {"precision": self.precision.state_dict(), "guard": self.guard.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.precision.load_state_dict(state["precision"])
        self.guard.load_state_dict(state["guard"])


def _log(norm: float) -> float:
    return math.log(max(norm, 1e-30))


def _cloned(tree: Any) -> Any:
    """The same tree with tensors of its own."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, Mapping):
        return {name: _cloned(value) for name, value in tree.items()}
    return type(tree)(map(_cloned, tree)) if isinstance(tree, list | tuple) else tree
