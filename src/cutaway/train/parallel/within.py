"""The objective inside the module, so that one call of one module is all that torch's wrappers have to watch.

DDP and FSDP act when a module's `forward` is called. Objectives call other methods (`hidden`, `logits`) and read
weights (the head's, chunk by chunk), which those wrappers would not see. So the objective moves in:
    within = Within(module, objective);   wrapped = DDP(within);   fit(wrapped, Ask(objective), ...)
and everything that it does happens inside `within.forward`. Weights keep their places in `module`, on which
optimisers and checkpoints go on to work under the old names.
Read next: train/parallel/replicate.py, train/parallel/shard.py
"""

from __future__ import annotations

from typing import Any

from torch import nn

from cutaway.data.batch import Batch
from cutaway.train.loss import Loss, Objective


class Within(nn.Module):
    """A batch -> its loss, as plain parts in which torch's wrappers find the tensors."""

    def __init__(self, module: nn.Module, objective: Objective):
        super().__init__()
        self.module, self.objective = module, objective

    def forward(self, batch: Batch) -> dict[str, Any]:
        loss = self.objective(self.module, batch)
        return {"total": loss.total, "count": loss.count, "metrics": loss.metrics}


class Ask:
    """The objective of a module that has its objective within."""

    def __init__(self, objective: Objective):
        self.splits = objective.splits

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        return Loss(**module(batch))
