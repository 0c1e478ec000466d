from __future__ import annotations

import math

import torch

from cutaway.models.pooler import Pooler
from cutaway.nn.context import Context


@torch.no_grad()
def test_it_is_the_tanh_of_a_linear_map():
    torch.manual_seed(0)
    pooler = Pooler().build(5).double()
    torch.nn.init.normal_(pooler.dense.bias)
    first_BD = torch.randn(3, 5, dtype=torch.float64)
    got_BD = pooler(first_BD, Context.of((3,), causal=False))
    weight, bias = pooler.dense.weight.tolist(), pooler.dense.bias.tolist()
    for first, got in zip(first_BD.tolist(), got_BD.tolist(), strict=True):
        for row in range(5):
            expected = math.tanh(bias[row] + sum(a * b for a, b in zip(weight[row], first, strict=True)))
            assert abs(got[row] - expected) < 1e-12


def test_it_costs_what_it_says():
    cost = Pooler().cost(5, 3, 7)
    assert cost.parameters == sum(parameter.numel() for parameter in Pooler().build(5).parameters()) == 30
    assert cost.flops == 2 * 3 * 25
