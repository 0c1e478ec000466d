from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3NextConfig
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

from cutaway.base.errors import BadInput
from cutaway.lab.checks.mixer import check_mixer
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.gated_delta import GatedDelta
from cutaway.nn.block import Block
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.initialisation import ScaledResidual, SmallWang, Xavier
from cutaway.nn.norms import RMSNorm
from cutaway.ops import delta
from cutaway.ops.forms import READABLE
from cutaway.train.optimisers.sorting import sort

DIM = 12
VALUES = {
    "heads alike": GatedDelta(heads=2, key_heads=2, head_dim=4),
    "shared keys": GatedDelta(heads=4, key_heads=2, head_dim=4, value_dim=6),
    "no convolution": GatedDelta(heads=3, key_heads=1, head_dim=5, value_dim=2, kernel=1),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())
SOLVE = {torch.ops.aten.linalg_solve_triangular: lambda system, right, *_, **__: solved(system, right)}


def solved(system, right):
    """FLOPs of substitution: each row takes off what the rows before it give."""
    *batch, count, width = right
    return torch.Size(batch).numel() * count * (count - 1) * width


def build(spec: GatedDelta) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spec.build(DIM)
    for name, parameter in module.named_parameters():
        if name not in ("fade", "fade_bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    return module


@EACH
@pytest.mark.parametrize("chunk", [4, 64])
def test_it_keeps_every_law(monkeypatch, spec, chunk):
    monkeypatch.setattr(delta, "CHUNK", chunk)
    check_mixer(build(spec), spec.streams(DIM), DIM)


@pytest.mark.parametrize("name", ["state", "convolution"])
def test_the_laws_see_what_is_not_kept(monkeypatch, name):
    """Wrong on purpose: the state, or the convolution's last tokens, as they were at the start."""
    replaced = ContiguousCache.replace

    def forgetful(self, layer, stream, rows, counts=None):
        replaced(self, layer, stream, torch.zeros_like(rows) if stream == name else rows, counts)

    monkeypatch.setattr(ContiguousCache, "replace", forgetful)
    spec = VALUES["shared keys"]
    with pytest.raises(AssertionError, match="chunks"):
        check_mixer(build(spec), spec.streams(DIM), DIM)


def test_twin():
    """transformers' own module, whole and a token at a time. Float32 sums of about a hundred terms in another order."""
    config = Qwen3NextConfig(
        hidden_size=DIM,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=4,
        linear_value_head_dim=6,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
    )
    theirs = Qwen3NextGatedDeltaNet(config, 0).eval()
    spec = replace(VALUES["shared keys"], norm=RMSNorm(eps=config.rms_norm_eps))
    ours = build(spec)
    theirs.in_proj_qkvz.weight, theirs.in_proj_ba.weight = ours.rows.weight, ours.rates.weight
    theirs.conv1d.weight, theirs.out_proj.weight = ours.convolution.weight, ours.out.weight
    theirs.A_log, theirs.dt_bias, theirs.norm.weight = ours.fade, ours.fade_bias, ours.norm.weight
    x_ND, cache = torch.randn(90, DIM), ContiguousCache((spec.streams(DIM),))
    with torch.no_grad():
        expected = theirs(x_ND[None])[0]
        torch.testing.assert_close(ours(x_ND, Context.of((90,)))[0], expected, atol=2e-5, rtol=2e-5)
        rows = []
        for x_1D in x_ND.split(1):
            rows.append(ours(x_1D, Context.of((1,), cache=cache))[0])
            cache.advance((1,))
    torch.testing.assert_close(torch.cat(rows), expected, atol=2e-5, rtol=2e-5)


@EACH
@torch.no_grad()
@pytest.mark.parametrize("tokens", [1, 3, 64, 150])
def test_it_costs_what_it_says(spec, tokens):
    """Parameters exactly, and FLOPs as torch counts the products; it does not count the system's substitution."""
    module = build(spec)
    assert spec.cost(DIM, 1, 9).parameters == sum(parameter.numel() for parameter in module.parameters())
    with FlopCounterMode(display=False, custom_mapping=SOLVE) as counter:
        module(torch.randn(tokens, DIM), Context.of((tokens,)))
    assert counter.get_total_flops() == spec.cost(DIM, tokens, tokens).flops
    assert spec.cost(DIM, tokens, 5000).flops == spec.cost(DIM, tokens, tokens).flops


@EACH
@torch.no_grad()
def test_what_it_keeps_does_not_grow(spec):
    module, cache = build(spec), ContiguousCache((spec.streams(DIM),))
    for length in (1, 2, 100):
        module(torch.randn(length, DIM), Context.of((length,), cache=cache))
        cache.advance((length,))
        assert cache.bytes == spec.cost(DIM, 1, sum(cache.lengths)).cache_bytes == spec.cost(DIM, 1, 1).cache_bytes


def test_a_state_stays_in_float32():
    spec = VALUES["shared keys"]
    cache = ContiguousCache((spec.streams(DIM),), dtype=torch.bfloat16)
    module = build(spec).bfloat16()
    with torch.no_grad():
        for _ in range(3):
            y_ND = module(torch.randn(2, DIM, dtype=torch.bfloat16), Context.of((2,), cache=cache))[0]
            cache.advance((2,))
    assert y_ND.dtype == torch.bfloat16
    assert cache.read(0, "state")[0].dtype == torch.float32
    assert cache.read(0, "convolution")[0].dtype == torch.bfloat16


def test_what_comes_later_changes_nothing():
    module, x_ND = build(VALUES["shared keys"]).double(), torch.randn(33, DIM, dtype=torch.float64, requires_grad=True)
    y_ND = module(x_ND, Context.of((33,)))[0]
    for token in (0, 3, 17):
        slope_ND = torch.autograd.grad(y_ND[token].sum(), x_ND, retain_graph=True)[0]
        assert not slope_ND[token + 1 :].any() and bool(slope_ND[token].any())


def test_a_whole_model_trains():
    """Every weight has a gradient, also under autocast; what decays and what starts how is found by structure."""
    spec = VALUES["shared keys"]
    blocks = (Block(mixer=spec, feed=Gated(hidden=8), before=RMSNorm()),) * 2
    model = Decoder(vocab=11, dim=DIM, blocks=blocks, length=64, norm=RMSNorm())
    module = model.build()
    for start in (Xavier(), SmallWang(), ScaledResidual()):
        start.apply(module)
    for narrow in (False, True):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            scores = module(torch.arange(20) % 11, Context.of((20,)))[0]
        scores.float().square().sum().backward()
        assert all(weight.grad is not None and bool(weight.grad.isfinite().all()) for weight in module.parameters())
    assert model.cost(1, 20).parameters == sum(weight.numel() for weight in module.parameters())
    assert {"blocks.0.mixer.fade", "blocks.0.mixer.fade_bias"} <= sort(module).vectors.keys()
    assert "blocks.0.mixer.rows.weight" in sort(module).hidden


def test_what_is_reported():
    spec, context = VALUES["shared keys"], Context.of((5, 2), want=frozenset({"attention"}), forms=READABLE)
    report = build(spec)(torch.randn(7, DIM), context)[1]
    for name in ("fade_NH", "write_NH"):
        assert report[name].shape == (7, 4) and bool(((report[name] >= 0) & (report[name] <= 1)).all())
    assert build(spec)(torch.randn(3, DIM), Context.of((3,)))[1] == {}


def test_equal_mixers_compare_equal():
    assert GatedDelta(heads=2, key_heads=2, head_dim=4) == GatedDelta(heads=2, key_heads=2, head_dim=4, value_dim=4)


@pytest.mark.parametrize("told", [{"causal": False}, {"prefix": (2,)}, {"bias": lambda see: None}])
def test_a_pass_that_it_cannot_read_is_refused(told):
    with pytest.raises(BadInput, match="left to right"):
        build(VALUES["heads alike"])(torch.randn(3, DIM), Context.of((3,), **told))


@pytest.mark.parametrize("wrong", [{"heads": 0}, {"key_heads": 3}, {"head_dim": 0}, {"value_dim": 0}, {"kernel": 0}])
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match="GatedDelta"):
        GatedDelta(**{"heads": 4, "key_heads": 2, "head_dim": 8, **wrong})
