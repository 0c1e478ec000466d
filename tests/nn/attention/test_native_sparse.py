from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.base.errors import BadInput
from cutaway.lab.checks.mixer import check_mixer
from cutaway.models.decoder import Decoder
from cutaway.nn.attention import native_sparse
from cutaway.nn.attention.compression import RAW
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.block import Block
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.initialisation import ScaledResidual
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.forms import FAST, READABLE

DIM = 12
TINY = {"heads": 4, "kv_heads": 2, "head_dim": 4}
VALUES = {
    "as in the paper": NativeSparse(**TINY, rope=Rope(width=4), block=4, stride=2, select=4, top_k=3, window=3),
    "overlapping": NativeSparse(**TINY, rope=Rope(width=2), block=3, stride=1, select=3, top_k=4, window=1, bias=True),
    "no overlap": NativeSparse(**TINY, block=2, stride=2, select=4, top_k=3, window=6, hidden=7, out_bias=True),
    "alike": NativeSparse(heads=2, kv_heads=1, head_dim=4, block=2, stride=2, select=2, top_k=5, window=4, scale=0.8),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())


def build(spec: NativeSparse) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spec.build(DIM)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # scores far from zero: what is chosen matters
    return module


@EACH
def test_it_keeps_every_law(spec):
    check_mixer(build(spec), spec.streams(DIM), DIM)


def test_the_laws_see_a_raw_row_that_is_not_kept():
    """Wrong on purpose: a block that ends has lost its first row."""
    spec = VALUES["as in the paper"]
    short = [replace(one, last=spec.block - 1) if one.name in RAW else one for one in spec.streams(DIM)]
    with pytest.raises(AssertionError, match="chunks"):
        check_mixer(build(spec), tuple(short), DIM)


def test_runs_of_queries_join_without_a_seam(monkeypatch):
    spec, x_ND = VALUES["as in the paper"], torch.randn(45, DIM, dtype=torch.float64)
    whole = build(spec).double()(x_ND, Context.of((29, 1, 15)))[0]
    monkeypatch.setattr(native_sparse, "RUN", 4)
    assert torch.allclose(build(spec).double()(x_ND, Context.of((29, 1, 15)))[0], whole, atol=1e-12)


@EACH
def test_fast_equals_readable(spec):
    module = build(spec).double()
    x_ND = torch.randn(45, DIM, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(45, DIM, dtype=torch.float64)
    leaves = [x_ND, *module.parameters()]
    found = []
    for forms in (FAST, READABLE):
        y_ND = module(x_ND, Context.of((29, 1, 15), forms=forms))[0]
        found.append([y_ND, *torch.autograd.grad((y_ND * slope).sum(), leaves)])
    for fast, slow in zip(*found, strict=True):
        assert torch.allclose(fast, slow, atol=1e-11)  # float64 sums in another order


@EACH
@torch.no_grad()
def test_a_token_costs_what_it_says(spec):
    """Parameters exactly; FLOPs of every single step as torch counts the readable form's products: those that end a
    block have more. What a whole pass costs is the sum of its steps."""
    module, cache = build(spec), ContiguousCache((spec.streams(DIM),), capacity=1)
    assert spec.cost(DIM, 1, 9).parameters == sum(parameter.numel() for parameter in module.parameters())
    total = 0
    for length in range(1, 41):
        context = Context.of((1,), cache=cache, forms=READABLE)
        with FlopCounterMode(display=False) as counter:
            module(torch.randn(1, DIM), context)
        cache.advance((1,))
        assert counter.get_total_flops() == spec.cost(DIM, 1, length).flops, length
        total += counter.get_total_flops()
    assert spec.cost(DIM, 40, 40).flops == total
    assert spec.cost(DIM, 9, 40).flops == total - spec.cost(DIM, 31, 31).flops


@EACH
@torch.no_grad()
def test_it_keeps_as_many_bytes_as_it_says(spec):
    """At several lengths, within 1%: windows hold up to twice their rows before the oldest go."""
    module, cache = build(spec), ContiguousCache((spec.streams(DIM),), slack=0, capacity=1)
    for length in range(4, 1201, 4):
        module(torch.randn(4, DIM), Context.of((4,), cache=cache))
        cache.advance((4,))
        if length in (800, 1000, 1200):
            assert cache.bytes == pytest.approx(spec.cost(DIM, 1, length).cache_bytes, rel=0.01)
    kept = {name: cache.read(0, name)[1][0] for name in ("compressed_key", "selected_key")}
    assert kept == {"compressed_key": 1200 // spec.stride, "selected_key": 1200}


def test_all_heads_of_a_group_select_the_same_blocks_and_three_always():
    spec = VALUES["overlapping"]
    context = Context.of((30, 8), want=frozenset({"attention"}))
    report = build(spec)(torch.randn(38, DIM), context)[1]
    assert report["gates_NBH"].shape == (38, 3, 4)
    assert report["chosen_NGJ"].shape == (38, 2, 4)  # one choice per group
    for token, choices in enumerate(report["chosen_NGJ"].tolist()):
        own = (token if token < 30 else token - 30) // spec.select
        for chosen in choices:
            assert {0, own, max(0, own - 1)} <= set(chosen)
            real = [number for number in chosen if number >= 0]
            assert len(set(real)) == len(real) == min(4, own + 1) and max(real) == own
    assert build(spec)(torch.randn(3, DIM), Context.of((3,)))[1] == {}


def test_what_comes_later_changes_nothing():
    spec = VALUES["as in the paper"]
    module, x_ND = build(spec).double(), torch.randn(33, DIM, dtype=torch.float64, requires_grad=True)
    y_ND = module(x_ND, Context.of((33,)))[0]
    for token in (0, 3, 4, 17):
        slope_ND = torch.autograd.grad(y_ND[token].sum(), x_ND, retain_graph=True)[0]
        assert not slope_ND[token + 1 :].any() and bool(slope_ND[token].any())


def test_a_chosen_block_is_read_where_it_is_chosen():
    """With only the selected gate open, a token outside the chosen blocks changes nothing, one within does."""
    spec = VALUES["as in the paper"]
    module, x_ND = build(spec).double(), torch.randn(40, DIM, dtype=torch.float64)
    module.gate.weight.data.zero_()
    module.gate.bias.data = torch.tensor([-60.0, 60.0, -60.0], dtype=torch.float64).repeat_interleave(spec.heads)
    x_ND.requires_grad_()
    y_ND, report = module(x_ND, Context.of((40,), want=frozenset({"attention"})))
    slope_ND = torch.autograd.grad(y_ND[39].sum(), x_ND)[0]
    moved = {token // 4 for token in slope_ND.abs().sum(-1).gt(1e-9).nonzero().flatten().tolist()}
    assert moved == set(report["chosen_NGJ"][39].flatten().tolist())


def test_a_cache_in_bfloat16_and_a_whole_model():
    spec = VALUES["as in the paper"]
    cache = ContiguousCache((spec.streams(DIM),), dtype=torch.bfloat16)
    with torch.no_grad():
        assert build(spec)(torch.randn(9, DIM), Context.of((9,), cache=cache))[0].dtype == torch.float32
    blocks = (Block(mixer=spec, feed=Gated(hidden=8), before=RMSNorm()),) * 2
    model = Decoder(vocab=11, dim=DIM, blocks=blocks, length=64, norm=RMSNorm())
    module = model.build()
    ScaledResidual().apply(module)
    scores = module(torch.arange(20) % 11, Context.of((20,)))[0]
    scores.square().sum().backward()
    assert all(weight.grad is not None for weight in module.parameters())
    assert model.cost(1, 20).parameters == sum(weight.numel() for weight in module.parameters())


def test_reads_are_those_of_the_paper():
    spec = NativeSparse(heads=64, kv_heads=4, head_dim=192)
    assert spec.reads(65536) == (4095, 1024, 512)
    assert spec.reads(1) == (0, 1, 1)
    assert spec.reads(65) == (3, 65, 65)  # blocks that end at 32, 48, 64
    assert spec.reads(64 * 16 + 1) == (63, 15 * 64 + 1, 512)


@pytest.mark.parametrize("told", [{"causal": False}, {"prefix": (2,)}, {"bias": lambda see: None}])
def test_a_pass_that_it_cannot_read_is_refused(told):
    with pytest.raises(BadInput, match="left to right"):
        build(VALUES["alike"])(torch.randn(3, DIM), Context.of((3,), **told))


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 0},
        {"kv_heads": 3},
        {"stride": 3},
        {"stride": 0},
        {"block": 6, "stride": 4, "select": 8},
        {"block": 4, "stride": 4, "select": 6},
        {"block": 8, "stride": 2, "select": 4},
        {"top_k": 2},
        {"window": 0},
        {"hidden": 0},
        {"scale": 0.0},
        {"rope": Rope(width=10)},
    ],
)
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match="NativeSparse"):
        NativeSparse(**{"heads": 4, "kv_heads": 2, "head_dim": 8, "block": 4, "stride": 2, "select": 4, **wrong})
