"""Spread tensors are told from whole ones, gathered, cut and written to; what is whole passes through."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from cutaway.train.shards import cut, is_sharded, shard, whole


@pytest.fixture
def mesh(tmp_path):
    """A mesh of one process; tests/train/parallel has those of more."""
    dist.init_process_group("gloo", init_method=(tmp_path / "meet").as_uri(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_what_is_whole_passes_through():
    tensor = torch.ones(3)
    assert not is_sharded(tensor)
    assert whole(tensor) is shard(tensor) is cut(tensor, torch.zeros(3)) is tensor


def test_a_spread_tensor(mesh):
    tensor = torch.arange(6.0).view(3, 2)
    spread = distribute_tensor(tensor, mesh, [Shard(0)])
    assert is_sharded(spread)
    assert torch.equal(whole(spread), tensor)
    shard(spread).add_(1)  # a view, not a copy
    assert torch.equal(whole(spread), tensor + 1)
    again = cut(tensor, spread)
    assert is_sharded(again)
    assert again.placements == spread.placements
    copies = distribute_tensor(tensor, mesh, [Replicate()])
    assert torch.equal(shard(copies, like=spread), tensor)
