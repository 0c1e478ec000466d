"""Strips of plain weights are made once, and anew where the weights are written to or replaced."""

from __future__ import annotations

import gc

import torch
from torch import nn

from cutaway.ops.cpu import plain
from cutaway.ops.cpu.pack import PLAIN, narrowest


def test_made_once_and_shared():
    weight = nn.Parameter(torch.randn(20, 32))
    first = plain.strips(weight)
    assert plain.strips(weight) is first and torch.equal(first.weights(), weight.detach())


def test_several_as_one():
    parts = [nn.Parameter(torch.randn(rows, 32)) for rows in (7, 16, 5)]
    whole = plain.strips(*parts)
    assert torch.equal(whole.weights(), torch.cat([part.detach() for part in parts]))
    assert plain.strips(*parts) is whole and plain.strips(parts[0]) is not whole
    other = nn.Parameter(torch.randn(16, 32))
    assert torch.equal(plain.strips(parts[0], other, parts[2]).weights()[7:23], other.detach())


def test_a_step_of_training_is_noticed():
    linear = nn.Linear(32, 8, bias=False)
    optimiser = torch.optim.SGD(linear.parameters(), lr=0.1)
    before = plain.strips(linear.weight)
    linear(torch.randn(3, 32)).sum().backward()
    optimiser.step()
    after = plain.strips(linear.weight)
    assert after is not before and torch.equal(after.weights(), linear.weight.detach())
    linear.load_state_dict({"weight": torch.zeros(8, 32)})
    assert not plain.strips(linear.weight).weights().any()
    linear.weight.data = torch.ones(8, 32)
    assert plain.strips(linear.weight).weights().sum() == 256


def test_what_is_made_while_inferring_serves_training_too():
    weight = nn.Parameter(torch.randn(8, 32))
    with torch.inference_mode():
        made = plain.strips(weight)
        fresh = torch.randn(8, 32)  # counts no version
        assert torch.equal(plain.strips(fresh).weights(), fresh)
    assert not made.codes.is_inference()


def test_nothing_is_kept_of_weights_that_are_gone():
    gc.collect()
    before = len(plain._kept)
    weight = nn.Parameter(torch.randn(8, 32))
    plain.strips(weight)
    assert len(plain._kept) == before + 1
    del weight
    gc.collect()
    assert len(plain._kept) == before


def test_weights_are_held_in_the_fewest_bytes_that_lose_nothing():
    torch.manual_seed(0)
    wide = torch.randn(33, 40)
    for dtype in (torch.bfloat16, torch.float16):
        assert narrowest(wide.to(dtype)) == dtype and narrowest(wide.to(dtype).float()) == dtype
        assert plain.strips(wide.to(dtype).float()).kind is PLAIN[dtype]
    assert narrowest(wide) == torch.float32
    wide[32, 39] = float("nan")  # which equals nothing, itself neither
    assert narrowest(wide.bfloat16().float()) == torch.float32
