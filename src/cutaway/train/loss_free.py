"""Balance without a loss: after each step the bias of every expert that had too few tokens goes up, of others down.

Wang et al. 2024 (arXiv 2408.15664), algorithm 1; DeepSeek-V3 (arXiv 2412.19437), section 2.1.2.
    b_e += rate * sign(mean load - load_e),   load: all tokens since the last step, of all micro-batches and processes
No gradient interferes with the loss's own; the bias shifts choices only.
    optimiser = LossFree(optimiser, module);   fit(module, optimiser.watch(objective), batches, optimiser, ...)
Read next: nn/experts/balance.py, train/objectives/balanced.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.nn.experts.balance import nudged
from cutaway.nn.experts.routers import RouterModule
from cutaway.train.loss import Loss, Objective
from cutaway.train.objectives.balanced import reported
from cutaway.train.world import Alone, World


class LossFree:
    """An optimiser around another, which also moves the routers' biases. `rate`: by how much, each step (0.001).

    The biases are the module's own and are saved with it. Raises BadInput for a module whose routers have none.
    """

    def __init__(
        self,
        optimiser: Any,
        module: nn.Module,
        *,
        rate: float = 0.001,
        world: World = Alone(),  # noqa: B008 (it holds nothing)
    ):
        if not 0.0 < rate < float("inf"):
            raise BadInput(f"must be above 0, is {rate}", field="LossFree.rate")
        self.optimiser, self.nudge, self.world = optimiser, rate, world
        self.biases = {
            name.removesuffix(".router"): router.bias
            for name, router in module.named_modules()
            if isinstance(router, RouterModule) and router.bias is not None
        }
        if not self.biases:
            raise BadInput("no router of this model has a bias (SigmoidTopK has)", field="module")
        self.loads: dict[str, Tensor] = {}

    @property
    def rate(self) -> float:
        return self.optimiser.rate

    def scale(self, factor: float) -> None:
        self.optimiser.scale(factor)

    def watch(self, objective: Objective) -> Counted:
        """The same objective, whose routers' loads in training are counted."""
        return Counted(objective, self)

    def count(self, report: Mapping[str, Any]) -> None:
        """Adds one pass's loads to those since the last step."""
        for name, load_E in reported(dict(report), "load_E").items():
            if name in self.biases:
                self.loads[name] = self.loads[name] + load_E if name in self.loads else load_E

    def zero_grad(self) -> None:
        self.loads.clear()
        self.optimiser.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        if self.loads.keys() != self.biases.keys():
            raise BadInput("no loads were counted: train on `watch(objective)`", field="LossFree")
        self.optimiser.step()
        # Only sums of all processes are acted on, so that the biases stay the same on each.
        whole = self.world.sum(torch.cat([self.loads[name] for name in self.biases]))
        sizes = [len(bias_E) for bias_E in self.biases.values()]
        for bias_E, load_E in zip(self.biases.values(), whole.split(sizes), strict=True):
            bias_E.copy_(nudged(bias_E, load_E, self.nudge))
        self.loads.clear()

    def state_dict(self) -> dict[str, Any]:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimiser.load_state_dict(state)


class Counted:
    """An objective that tells the routers' loads."""

    def __init__(self, objective: Objective, balance: LossFree):
        self.objective, self.balance, self.splits = objective, balance, objective.splits

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        loss = self.objective(module, batch)
        if module.training:
            self.balance.count(loss.report)
        return loss
