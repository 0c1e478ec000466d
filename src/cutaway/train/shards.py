"""Tensors of which each process holds a part (torch's DTensor), told from those it holds whole.

Importing them takes a second; before anyone has, there can be none.
Read next: train/optimisers/descent.py, train/parallel/fleet.py
"""

from __future__ import annotations

import sys
from typing import Any, cast

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is spread over processes, in parts or in copies."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of it, gathered where it is spread."""
    spread: Any = tensor
    return spread.full_tensor() if is_sharded(tensor) else tensor


def shard(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """The part that lies here, after it was cut as `like` is cut; writing to it writes to the tensor."""
    spread, model = cast(Any, tensor), cast(Any, like)
    if not is_sharded(tensor):
        return tensor
    if model is not None and spread.placements != model.placements:
        spread = spread.redistribute(model.device_mesh, model.placements)
    return spread.to_local()


def cut(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same on every process, spread as `like` is spread; nothing is sent."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    spread: Any = like
    return distribute_tensor(tensor, spread.device_mesh, spread.placements, src_data_rank=None)
