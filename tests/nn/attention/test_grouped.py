from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.base.errors import BadInput
from cutaway.lab.checks.mixer import check_mixer
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import QuantisedLinear
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.forms import FAST, NAMED, READABLE, Forms
from cutaway.ops.packed import Packed

DIM = 24
VALUES = {
    "mha": GroupedQuery(heads=4, kv_heads=4, head_dim=6),
    "mqa": GroupedQuery(heads=4, kv_heads=1, head_dim=6, rope=Rope(width=6)),
    "gqa": GroupedQuery(
        heads=6, kv_heads=2, head_dim=4, rope=Rope(width=4, interleaved=True), bias=True, out_bias=True
    ),
    "window": GroupedQuery(heads=2, kv_heads=1, head_dim=8, rope=Rope(width=4), window=5),
    "window of one": GroupedQuery(heads=2, kv_heads=1, head_dim=8, window=1),
    "normed": GroupedQuery(heads=2, kv_heads=2, head_dim=8, rope=Rope(width=8), head_norm=RMSNorm(), scale=0.3),
    "capped": GroupedQuery(heads=2, kv_heads=1, head_dim=8, softcap=2.0, window=4),
    "gated": GroupedQuery(heads=4, kv_heads=2, head_dim=6, rope=Rope(width=2), gated=True, bias=True),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())


def build(spec: GroupedQuery) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spec.build(DIM)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)  # scores far from zero, biases too
    return module


@EACH
def test_it_keeps_every_law(spec):
    check_mixer(build(spec), spec.streams(DIM), DIM)


@EACH
def test_fast_equals_readable(spec):
    module, x_ND = build(spec).double(), torch.randn(17, DIM, dtype=torch.float64)
    fast, slow = (module(x_ND, Context.of((9, 1, 7), forms=forms))[0] for forms in (FAST, READABLE))
    assert torch.allclose(fast, slow, atol=1e-12)


@EACH
def test_it_costs_what_it_says(spec):
    """Parameters and cache bytes exactly; FLOPs as torch counts the readable form's products, of which the mask hides
    some: with everything visible both agree."""
    module = build(spec)
    cost = spec.cost(DIM, 1, 9)
    assert cost.parameters == sum(parameter.numel() for parameter in module.parameters())
    cache = ContiguousCache((spec.streams(DIM),), slack=0, capacity=1)
    with torch.no_grad():
        for _ in range(9):
            context = Context.of((1,), cache=cache, forms=READABLE)
            with FlopCounterMode(display=False) as counter:
                module(torch.randn(1, DIM), context)
            cache.advance((1,))
    assert counter.get_total_flops() == cost.flops
    held = sum(stream.bytes(9) for stream in spec.streams(DIM))
    assert cost.cache_bytes == held
    assert spec.window is not None or cache.bytes == held


def test_cost_counts_the_pairs_that_may_be_seen():
    spec = GroupedQuery(heads=1, kv_heads=1, head_dim=1, window=3)
    pairs = sum(min(position + 1, 3) for position in range(4, 10))
    assert spec.cost(1, 6, 10).flops == 2 * 4 * 6 + 4 * pairs


@EACH
def test_heads_of_one_packed_product_equal_those_of_three(spec):
    """Few rows of packed weights: one product for q, k and v, and one turn of q and k where no norm stands between."""
    dim, spec = 64, replace(spec, bias=False, head_dim=16)
    torch.manual_seed(0)
    module, x_ND = spec.build(dim), torch.randn(3, dim)
    for name in ("query", "key", "value"):
        blocks = quantise(torch.randn(getattr(module, name).weight.shape), FORMATS["q4_0"])
        setattr(module, name, QuantisedLinear(Packed(blocks=blocks, format=FORMATS["q4_0"])))
    context = Context.of((3,), forms=NAMED["exact"])
    with torch.no_grad():
        joined, _ = module(x_ND, context)
        assert module.fan.joined is not None
        module.fan._join = lambda x, maps: None
        apart, _ = module(x_ND, context)
    assert torch.allclose(joined, apart, atol=1e-5)  # the same sums in float32, by the same kernel


def test_entropy_is_reported_only_where_wanted():
    module, x_ND = build(VALUES["mha"]), torch.randn(5, DIM)
    assert module(x_ND, Context.of((5,)))[1] == {}
    entropy_NH = module(x_ND, Context.of((3, 2), want=frozenset({"attention"})))[1]["entropy_NH"]
    assert entropy_NH.shape == (5, 4)
    assert torch.equal(entropy_NH[[0, 3]], torch.zeros(2, 4))  # the first of a sequence sees only itself
    assert bool((entropy_NH <= math.log(3)).all())


def test_a_pass_of_no_sequences_gives_no_rows():
    for forms in (FAST, READABLE):
        context = Context.of((), forms=forms, want=frozenset({"attention"}))
        y_ND, report = build(VALUES["gqa"])(torch.randn(0, DIM), context)
        assert y_ND.shape == (0, DIM) and report["entropy_NH"].shape == (0, 6)


def test_a_readers_own_attention_is_the_one_that_runs():
    def zeros(q, k, v, see, *, scale, softcap=None, dropout=0.0):
        return torch.zeros_like(q)

    module = build(VALUES["gqa"])
    y_ND, _ = module(torch.randn(3, DIM), Context.of((3,), forms=Forms(attend=zeros)))
    assert torch.equal(y_ND, module.out.bias.expand(3, DIM))


def test_dropout_acts_in_training_only():
    spec = GroupedQuery(heads=2, kv_heads=1, head_dim=8, dropout=0.5)
    module, x_ND = build(spec), torch.randn(6, DIM)
    drawn = [module.train()(x_ND, Context.of((6,)))[0] for _ in range(2)]
    kept = [module.eval()(x_ND, Context.of((6,)))[0] for _ in range(2)]
    assert not torch.equal(*drawn)
    assert torch.equal(*kept)


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 0},
        {"kv_heads": 3},
        {"window": 0},
        {"softcap": 0.0},
        {"softcap": math.nan},
        {"scale": -0.5},
        {"rope": Rope(width=10)},
        {"head_dim": -1},
        {"dropout": 1.0},
    ],
)
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match="GroupedQuery"):
        GroupedQuery(**{"heads": 4, "kv_heads": 2, "head_dim": 8, **wrong})
