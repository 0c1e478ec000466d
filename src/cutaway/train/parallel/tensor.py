"""Tensor parallel: each process holds some heads of every attention and some columns of every feed.

Shoeybi et al. 2019, Megatron-LM (arXiv 1909.08053), section 3. query, key, value, up and gate are cut by outputs, out
and down by inputs; between the two nothing is sent. Forward, a block sums its (N, D) residual twice over the processes,
behind out and behind down. Norms and tables are whole on every process, and so are their gradients.
Departures: the token table is not cut; backward, torch's hooks sum once for each map that reads the residual (query,
key, value; gate, up), where Megatron's one function in front of them sums once for all (see columns.py).
N tokens, flat · D model dim.   Read next: train/parallel/columns.py (the same by hand), train/parallel/shard.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle, parallelize_module

from cutaway.base.errors import BadInput
from cutaway.nn.attention.grouped import GroupedQueryAttention
from cutaway.nn.feedforward import GatedFeed, PlainFeed
from cutaway.nn.linear import Linear
from cutaway.train.blocks import blocks_of
from cutaway.train.parallel.fleet import Fleet


class Columns(ParallelStyle):
    """A linear map cut by outputs: the whole x (N, inputs) -> this process's columns (N, outputs / p)."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(
            module, device_mesh, partial(_cut, weight=Shard(0), bias=Shard(0)), _take(Replicate()), _give(Shard(-1))
        )


class Rows(ParallelStyle):
    """A linear map cut by inputs: this process's columns of x (N, inputs / p) -> the whole sum (N, outputs)."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(
            module, device_mesh, partial(_cut, weight=Shard(1), bias=Replicate()), _take(Shard(-1)), _give(Replicate())
        )


PLANS: dict[type[nn.Module], dict[str, ParallelStyle]] = {
    GroupedQueryAttention: {
        "query": Columns(),
        "key": Columns(),
        "value": Columns(),
        "gate": Columns(),
        "out": Rows(),
    },
    PlainFeed: {"up": Columns(), "down": Rows()},
    GatedFeed: {"gate": Columns(), "up": Columns(), "down": Rows()},
}


def split_tensors(module: nn.Module, fleet: Fleet) -> nn.Module:
    """`module`, a decoder, cut in place along the fleet's `tensor` axis; the first process's weights are everyone's.

    `fit` takes it with the objective as it is, all processes of the axis with the same batches. Together with `shard`:
    this first. Build the optimiser after both.
    Raises BadInput for heads that cannot be shared out, and for a part that has no plan here.
    """
    mesh, count = fleet.mesh["tensor"], fleet.layout.tensor
    parts = [block.get_submodule(name) for block in blocks_of(module) for name in ("mixer", "feed")]
    if not parts:
        raise BadInput("has no blocks to cut", field=type(module).__name__)
    for part in parts:
        _check(part, count)
    with torch.no_grad():
        for weight in module.parameters():
            dist.broadcast(weight.detach(), group=fleet.group("tensor"), group_src=0)
    for part in parts:
        parallelize_module(part, mesh, _plan(part))  # type: ignore[arg-type]
        if isinstance(part, GroupedQueryAttention):
            _share_heads(part, fleet)
    return module


def _plan(part: nn.Module) -> dict[str, ParallelStyle]:
    """How each map of a part is cut; not every attention has a gate."""
    return {name: style for name, style in PLANS[type(part)].items() if getattr(part, name) is not None}


def _check(part: nn.Module, count: int) -> None:
    name = type(part).__name__
    if type(part) not in PLANS or any(not isinstance(part.get_submodule(at), Linear) for at in _plan(part)):
        raise BadInput(f"there is no plan to cut it (for: {', '.join(one.__name__ for one in PLANS)})", field=name)
    fields = ("heads", "kv_heads") if isinstance(part, GroupedQueryAttention) else ("hidden",)
    for field in fields:
        held = getattr(part.spec, field)
        if held % count:
            raise BadInput(f"{held} cannot be shared out among {count} processes", field=f"{name}.{field}")


def _share_heads(part: GroupedQueryAttention, fleet: Fleet) -> None:
    """Here it is the attention of fewer heads, of the same width and scale."""
    spec, count = part.spec, fleet.layout.tensor
    if spec.alibi is not None and count > 1:
        raise BadInput("slopes are counted over all heads: they cannot be shared out", field="GroupedQuery.alibi")
    part.spec = replace(spec, heads=spec.heads // count, kv_heads=spec.kv_heads // count)
    for norm in (part.query_norm, part.key_norm):
        if norm is not None:  # every process's heads meet the same weights: their gradients belong together
            if fleet.layout.data > 1:
                raise BadInput("norms of heads cannot be cut and sharded at once", field="GroupedQuery.head_norm")
            for weight in norm.parameters():
                weight.register_hook(partial(_added, group=fleet.group("tensor")))


def _added(gradient: Tensor, group: dist.ProcessGroup) -> Tensor:
    gradient = gradient.clone()
    dist.all_reduce(gradient, group=group)
    return gradient


def _cut(name: str, module: nn.Module, mesh: DeviceMesh, *, weight: Any, bias: Any) -> None:
    places = {"weight": weight, "bias": bias}
    for held, parameter in list(module.named_parameters(recurse=False)):
        spread = distribute_tensor(parameter.detach(), mesh, [places[held]])
        module.register_parameter(held, nn.Parameter(spread, requires_grad=parameter.requires_grad))


def _take(place: Any) -> Callable[..., Any]:
    """x of this process becomes part of a spread one. From a whole x, gradients come back summed."""

    def take(module: nn.Module, inputs: Any, mesh: DeviceMesh) -> Any:
        x, *others = inputs
        return (DTensor.from_local(x, mesh, [place], run_check=False), *others)

    return take


def _give(place: Any) -> Callable[..., Any]:
    def give(module: nn.Module, output: Any, mesh: DeviceMesh) -> Any:
        return output.redistribute(mesh, [place]).to_local()

    return give
