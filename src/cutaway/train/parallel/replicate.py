"""Data parallel: every process holds the whole model and sees its own batches; gradients are averaged as they appear.

Li et al. 2020 (arXiv 2006.15704): gradients are gathered in buckets, and a bucket is reduced while the backward pass
makes the next. Each process sends and receives 2 (p - 1) / p of the gradients' bytes.
Read next: train/parallel/ring.py (what a reduction sends), train/parallel/shard.py
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cutaway.train.loss import Objective
from cutaway.train.parallel.fleet import Fleet
from cutaway.train.parallel.within import Ask, Within


def replicate(module: nn.Module, objective: Objective, fleet: Fleet, **told: Any) -> tuple[nn.Module, Ask]:
    """(module, objective) for `fit`; all processes start from the weights of the first. Build the optimiser on the old
    `module`, whose weights they are. `told` goes to torch's DistributedDataParallel.

    With `accumulate` in `fit`, gradients are reduced once for each micro-batch: right, though more than is needed.
    """
    devices = [fleet.device] if fleet.device.type == "cuda" else None
    group = fleet.group("data")
    told = {"gradient_as_bucket_view": True, **told}  # gradients lie in the buckets, not there and in the weights too
    wrapped = DistributedDataParallel(Within(module, objective), device_ids=devices, process_group=group, **told)
    return wrapped, Ask(objective)
