from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.base.errors import BadInput
from cutaway.lab.checks.mixer import check_mixer
from cutaway.nn.attention.block_sparse import BlockSparse, mask
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.positions import Rope
from cutaway.ops.forms import FAST, READABLE

DIM = 12
TINY = {"heads": 4, "kv_heads": 2, "head_dim": 4}
VALUES = {
    "banded": BlockSparse(**TINY, rope=Rope(width=4), block=4, seen=mask(8, near=2, first=1)),
    "fixed": BlockSparse(**TINY, block=2, seen=mask(16, near=1, every=3), bias=True, out_bias=True, scale=0.8),
    "by hand": BlockSparse(**TINY, block=7, seen=((0,), (), (2, 0), (1,), (4, 3))),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())


def build(spec: BlockSparse) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spec.build(DIM)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


@EACH
def test_it_keeps_every_law(spec):
    check_mixer(build(spec), spec.streams(DIM), DIM)


@EACH
def test_fast_equals_readable(spec):
    module, x_ND = build(spec).double(), torch.randn(45, DIM, dtype=torch.float64)
    fast, slow = (module(x_ND, Context.of((29, 1, 15), forms=forms))[0] for forms in (FAST, READABLE))
    assert torch.allclose(fast, slow, atol=1e-12)


@EACH
@torch.no_grad()
def test_a_token_costs_what_it_says(spec):
    """Parameters and cache bytes exactly, FLOPs of every step as torch counts the readable form's products."""
    module, cache = build(spec), ContiguousCache((spec.streams(DIM),), capacity=1)
    assert spec.cost(DIM, 1, 9).parameters == sum(parameter.numel() for parameter in module.parameters())
    total = 0
    for length in range(1, 31):
        context = Context.of((1,), cache=cache, forms=READABLE)
        with FlopCounterMode(display=False) as counter:
            module(torch.randn(1, DIM), context)
        cache.advance((1,))
        assert counter.get_total_flops() == spec.cost(DIM, 1, length).flops, length
        assert cache.bytes == spec.cost(DIM, 1, length).cache_bytes
        total += counter.get_total_flops()
    assert spec.cost(DIM, 30, 30).flops == total


def test_where_all_blocks_are_seen_it_is_grouped_query_attention():
    spec = BlockSparse(**TINY, rope=Rope(width=4), block=3, seen=mask(6, near=6))
    module, plain = build(spec), GroupedQuery(**TINY, rope=Rope(width=4)).build(DIM)
    plain.load_state_dict(module.state_dict())
    x_ND = torch.randn(17, DIM)
    ours, theirs = (one(x_ND, Context.of((12, 5)))[0] for one in (module, plain))
    assert torch.allclose(ours, theirs, atol=1e-5)  # float32 sums in another order
    assert spec.cost(DIM, 17, 17) == GroupedQuery(**TINY).cost(DIM, 17, 17)


def test_a_pass_of_no_sequences_gives_no_rows():
    for forms in (FAST, READABLE):
        assert build(VALUES["banded"])(torch.randn(0, DIM), Context.of((), forms=forms))[0].shape == (0, DIM)


def test_masks_by_their_rule():
    assert mask(4, near=2) == ((0,), (0, 1), (1, 2), (2, 3))
    assert mask(4, near=1, first=1) == ((0,), (0, 1), (0, 2), (0, 3))
    assert mask(5, near=1, every=2) == ((0,), (1,), (1, 2), (1, 3), (1, 3, 4))
    with pytest.raises(BadInput, match="near=0"):
        mask(4, near=0)


def test_what_the_mask_does_not_reach_is_refused():
    spec = BlockSparse(**TINY, block=2, seen=mask(3, near=1))
    with pytest.raises(BadInput, match="end before token 7"):
        build(spec)(torch.randn(8, DIM), Context.of((1, 7)))
    with pytest.raises(BadInput, match="left to right"):
        build(spec)(torch.randn(3, DIM), Context.of((3,), causal=False))


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 0},
        {"kv_heads": 3},
        {"block": 0},
        {"seen": ()},
        {"seen": ((), ())},
        {"seen": ((1,),)},
        {"seen": ((0,), (-1,))},
        {"seen": ((0,), (1, 1))},
        {"scale": -1.0},
        {"rope": Rope(width=6)},
    ],
)
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match="BlockSparse"):
        BlockSparse(**{**TINY, "block": 4, "seen": mask(4, near=2), **wrong})
