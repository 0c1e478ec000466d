"""Fully sharded: each process holds 1/p of every weight, gradient and optimiser state, and borrows the rest.

Rajbhandari et al. 2019 (arXiv 1910.02054), ZeRO stage 3; Zhao et al. 2023 (arXiv 2304.11277). A block's weights are
gathered before it runs, forward and backward, and forgotten after; its gradients are averaged and scattered at once:
three times (p - 1) / p of the weights' bytes per process and step, against two for plain data parallelism.
Read next: train/parallel/zero.py (the same by hand), train/parallel/store.py
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from cutaway.train.blocks import blocks_of
from cutaway.train.loss import Objective
from cutaway.train.parallel.fleet import Fleet
from cutaway.train.parallel.within import Ask, Within
from cutaway.train.shards import shard as part


def shard(module: nn.Module, objective: Objective, fleet: Fleet, **told: Any) -> tuple[nn.Module, Ask]:
    """(module, objective) for `fit`; all processes start from the weights of the first. Build the optimiser after this,
    on the old `module`, whose weights are now spread. `told` goes to torch's fully_shard (its mixed precision).

    What is outside of blocks (tables, last norm, head) is gathered once for forward and backward together.
    """
    _agree(module, fleet)
    within, mesh = Within(module, objective), fleet.mesh["data"]
    for block in blocks_of(module):
        fully_shard(block, mesh=mesh, **told)
    fully_shard(within, mesh=mesh, reshard_after_forward=False, **told)
    return within, Ask(objective)


@torch.no_grad()
def _agree(module: nn.Module, fleet: Fleet) -> None:
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(part(tensor.detach()), group=fleet.group("data"), group_src=0)
