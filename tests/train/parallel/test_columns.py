"""Column and row parallel maps: outputs and gradients are those of the whole maps, and of torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from cutaway.base.errors import BadInput
from cutaway.train.parallel.columns import ColumnLinear, RowLinear

ROOM, WIDE = 6, 8


def whole() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"up": (WIDE, ROOM), "up_bias": (WIDE,), "down": (ROOM, WIDE), "down_bias": (ROOM,), "x": (5, ROOM)}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def twin(held: dict[str, torch.Tensor], fleet) -> nn.Sequential:
    """The same by torch's own tensor parallelism."""
    module = nn.Sequential(nn.Linear(ROOM, WIDE), nn.Tanh(), nn.Linear(WIDE, ROOM)).double()
    with torch.no_grad():
        for place, name in ((0, "up"), (2, "down")):
            module[place].weight.copy_(held[name])
            module[place].bias.copy_(held[f"{name}_bias"])
    return parallelize_module(module, fleet.mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})


def work(fleet, folder):
    held = whole()
    group = fleet.group("tensor")
    up = ColumnLinear(held["up"], held["up_bias"], group)
    down = RowLinear(held["down"], held["down_bias"], group)
    refused = ""
    try:
        ColumnLinear(held["up"][:3], None, group)
    except BadInput as error:
        refused = str(error)
    x = held["x"].requires_grad_()
    y = down(up(x).tanh())
    y.square().sum().backward()
    library = twin(held, fleet)
    other = held["x"].detach().requires_grad_()
    z = library(other)
    z.square().sum().backward()
    torch.testing.assert_close(z, y.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(other.grad, x.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(library[0].weight.grad.to_local(), up.weight.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(library[2].weight.grad.to_local(), down.weight.grad, rtol=1e-12, atol=1e-12)
    parts = {"up": up.weight, "up_bias": up.bias, "down": down.weight, "down_bias": down.bias, "x": x}
    return {"y": y.detach(), "refused": refused, **{name: one.grad for name, one in parts.items()}}


def check(results) -> None:
    held = {name: tensor.requires_grad_() for name, tensor in whole().items()}
    hidden = F.linear(held["x"], held["up"], held["up_bias"]).tanh()
    y = F.linear(hidden, held["down"], held["down_bias"])
    y.square().sum().backward()
    joins = {"up": 0, "up_bias": 0, "down": 1}  # what is cut, and along what
    for name, dim in joins.items():
        joined = torch.cat([result[name] for result in results], dim)
        torch.testing.assert_close(joined, held[name].grad, rtol=1e-12, atol=1e-12)
    for result in results:
        torch.testing.assert_close(result["y"], y.detach(), rtol=1e-12, atol=1e-12)
        for name in ("x", "down_bias"):
            torch.testing.assert_close(result[name], held[name].grad, rtol=1e-12, atol=1e-12)
        assert "cannot be shared out" in result["refused"]


def test_two_processes(processes):
    check(processes(__file__, work, tensor=2))


@pytest.mark.proof
def test_four_processes(processes):
    check(processes(__file__, work, tensor=4))
