"""The processes of one training run and how they are laid out: who sees other data, other columns, other layers.

torchrun starts them and tells each its number:   torchrun --nproc-per-node 4 script.py
    fleet = start(Layout(data=2, tensor=2))
A fleet is what `fit` calls its world. Processes along `data` see different batches; their gradients are averaged by
whatever wraps the module, and `fit` multiplies by their number. Along `tensor` and `pipeline` they share a batch.
Read next: train/parallel/within.py, train/world.py
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.train.shards import is_sharded, whole

AXES = ("pipeline", "data", "tensor")  # neighbours in number talk most: those along `tensor`


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How many processes stand along each axis; their product is the number of processes."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1

    def __post_init__(self) -> None:
        at_least(self, 1, *AXES)

    @property
    def processes(self) -> int:
        return self.data * self.tensor * self.pipeline


class Fleet:
    """This process's view of all of them. Implements `train.world.World`."""

    def __init__(self, layout: Layout, mesh: DeviceMesh, device: torch.device):
        self.layout, self.mesh, self.device = layout, mesh, device

    @property
    def size(self) -> int:
        return self.layout.data

    def place(self, axis: str) -> int:
        """This process's number along an axis, from 0: along `data`, which share of the batches is its own."""
        return self.mesh.get_local_rank(axis)

    def group(self, axis: str) -> dist.ProcessGroup:
        """Those that differ from this process along one axis only."""
        return self.mesh.get_group(axis)

    def sum(self, numbers: Tensor) -> Tensor:
        """Over the data, and over a pipeline, all stages of which but the last have nothing to tell."""
        summed = numbers.to(self.device, copy=True)
        for axis in ("pipeline", "data"):
            if getattr(self.layout, axis) > 1:
                dist.all_reduce(summed, group=self.group(axis))
        return summed

    def length(self, gradients: list[Tensor]) -> float:
        """The joint length of gradients of which this process may hold parts, or the whole, or (pipeline) a few."""
        by_mesh: dict[Any, list[Tensor]] = {}
        for gradient in gradients:
            by_mesh.setdefault(gradient.device_mesh if is_sharded(gradient) else None, []).append(gradient)  # type: ignore[attr-defined]
        parts = [whole(torch.nn.utils.get_total_norm(alike)).double() for alike in by_mesh.values()]
        square = torch.stack(parts).square().sum() if parts else torch.zeros((), dtype=torch.float64)
        if self.layout.pipeline > 1:
            square = square.to(self.device)
            dist.all_reduce(square, group=self.group("pipeline"))
        return math.sqrt(float(square))

    def close(self) -> None:
        """Ends the talk between processes."""
        dist.destroy_process_group()


def start(layout: Layout | None = None, rendezvous: str = "env://") -> Fleet:
    """Joins the other processes; `layout=None`: all of them along `data`. Call it once, first.

    NCCL where there are CUDA devices, one for each process of a machine, gloo elsewhere. Raises BadInput outside
    torchrun, for a layout of another number of processes, and for more processes than this machine has devices.
    """
    told = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not all(value.isdecimal() for value in told.values()):
        raise BadInput(f"{', '.join(told)} are not set: start this with torchrun", source="torchrun")
    rank, count, local = (int(value) for value in told.values())
    layout = layout or Layout(data=count)
    if layout.processes != count:
        shape = " x ".join(f"{axis} {getattr(layout, axis)}" for axis in AXES)
        raise BadInput(f"{shape} needs {layout.processes} processes, there are {count}", field="Layout")
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and local >= torch.cuda.device_count():
        held = torch.cuda.device_count()
        raise BadInput(f"process {local} of this machine needs a device, it has {held}", source="torchrun")
    device = torch.device(kind, local) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=count)
    shape = tuple(getattr(layout, axis) for axis in AXES)
    return Fleet(layout, init_device_mesh(kind, shape, mesh_dim_names=AXES), device)
