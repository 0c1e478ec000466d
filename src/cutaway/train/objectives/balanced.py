"""An objective, and the losses by which routers keep their experts evenly used.

Switch (arXiv 2101.03961), equation 4 and section 2.2; ST-MoE (arXiv 2202.08906), equation 6.
    loss + weight * sum over layers of balance  + z * sum over layers of z-loss     (per item: all are means)
Read next: nn/experts/balance.py, train/loss_free.py (without such a loss)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.bounds import fractions
from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.train.loss import Loss, Objective


@dataclass(frozen=True, kw_only=True)
class Balanced:
    """`weight` of the load-balance loss (Switch: 0.01; Qwen3-MoE: 0.001), `z` of the z-loss (ST-MoE: 0.001).

    The balance of a batch is not that of its pieces: it is not to be cut. Micro-batches and processes balance each its
    own. In evaluation the objective is left as it is. The metric `balance` is the mean over layers: 1 is even.
    """

    splits = False
    objective: Objective
    weight: float = 0.01
    z: float = 0.0

    def __post_init__(self) -> None:
        fractions(self, "weight", "z")

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        loss = self.objective(module, batch)
        if not module.training:
            return loss
        balance, z = reported(loss.report, "balance"), reported(loss.report, "z")
        if not balance:
            raise BadInput("the model, or its objective, reports no experts to balance", field="Balanced.objective")
        balances = torch.stack(list(balance.values()))
        extra = self.weight * balances.sum() + self.z * torch.stack(list(z.values())).sum()
        metrics = loss.metrics | {"balance": balances.detach().mean() * loss.count}
        return replace(loss, total=loss.total + extra * loss.count, metrics=metrics)


def reported(report: dict[str, Any], name: str) -> dict[str, Tensor]:
    """What each mixture of experts reported under `name`, by the mixture's own name ("blocks.3.feed")."""
    end = f".feed.{name}"
    return {key.removesuffix(f".{name}"): value for key, value in report.items() if key.endswith(end)}
