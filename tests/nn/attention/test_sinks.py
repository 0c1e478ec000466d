from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.base.errors import BadInput
from cutaway.lab.checks.mixer import check_mixer
from cutaway.lab.checks.sinks import check_sinks
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention import sinks as module
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.sinks import clamped, halves
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.ops.attend import attend_readable, attend_sdpa
from cutaway.ops.forms import FAST, READABLE
from cutaway.ops.rope import rotate_readable
from cutaway.ops.tiled import attend_tiled

DIM = 12
ROPE = Rope(width=6)
VALUES = {
    "rope": GroupedQuery(heads=4, kv_heads=2, head_dim=6, rope=ROPE, window=5, sinks=2),
    "part of each head": GroupedQuery(heads=2, kv_heads=1, head_dim=8, rope=ROPE, window=1, sinks=3, softcap=3.0),
    "no positions": GroupedQuery(heads=2, kv_heads=2, head_dim=6, window=4, sinks=1),
    "alibi": GroupedQuery(heads=3, kv_heads=1, head_dim=4, alibi=Alibi(), window=4, sinks=2),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())


def build(spec):
    torch.manual_seed(0)
    built = spec.build(DIM)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return built


def run_as(attend):
    """Our turning and masking as the check calls it."""

    def run(q_THK, k_TGK, v_TGK, *, window, sinks, angles, scale):
        context = Context.of((len(q_THK),))
        see = context.visible((len(q_THK),), window, sinks)
        rope = Rope(width=4, theta=(angles[0] / angles[1]) ** 2)  # the second angle of two is 1 / sqrt(theta)
        cos, sin = rope.tables(context, torch.float64)
        near_THK, k_TGK = (rotate_readable(x, cos, sin) for x in (q_THK, k_TGK))
        far_THK = clamped(q_THK, rope, context, window, sinks, torch.float64)
        if far_THK is not None:
            near_THK, k_TGK = halves(near_THK, far_THK, k_TGK, see)
        return attend(near_THK, k_TGK, v_TGK, see, scale=scale)

    return run


@pytest.mark.parametrize("attend", [attend_readable, attend_sdpa, attend_tiled])
def test_it_is_the_rolling_cache(attend, monkeypatch):
    # The tables' own angles are float32: 0.3 is not, so exact ones are put in.
    monkeypatch.setattr(
        Rope, "frequencies", lambda rope, device=None, prompt=None: torch.tensor([1.0, 0.3], dtype=torch.float64)
    )
    check_sinks(run_as(attend))


@EACH
def test_it_keeps_every_law(spec):
    check_mixer(build(spec), spec.streams(DIM), DIM)


@torch.no_grad()
@EACH
def test_the_cache_stays_as_large_as_it_is(spec):
    cache, built = ContiguousCache((spec.streams(DIM),), slack=0, capacity=1), build(spec)
    most = spec.sinks + spec.window
    for tokens in range(1, 40):
        built(torch.randn(1, DIM), Context.of((1,), cache=cache))
        cache.advance((1,))
        held = cache.read(0, "key")[0].shape[0]
        assert held == min(tokens, most) == spec.streams(DIM)[0].rows(tokens)


@torch.no_grad()
def test_it_costs_what_it_says():
    """FLOPs as torch counts those of one more token, which sees all that is held."""
    for spec in VALUES.values():
        cache, built = ContiguousCache((spec.streams(DIM),), slack=0, capacity=1), build(spec)
        for tokens in range(1, 15):
            with FlopCounterMode(display=False) as counter:
                built(torch.randn(1, DIM), Context.of((1,), cache=cache, forms=READABLE))
            cache.advance((1,))
            assert counter.get_total_flops() == spec.cost(DIM, 1, tokens).flops
        assert spec.cost(DIM, 1, 14).cache_bytes == sum(stream.bytes(14) for stream in spec.streams(DIM))


@torch.no_grad()
def test_what_is_kept_does_not_depend_on_how_it_came():
    """Keys are turned once, by their own places."""
    spec, x_ND = VALUES["rope"], torch.randn(23, DIM)
    built, kept = build(spec), []
    for chunks in ((23,), (9, 5, 9), (1,) * 23):
        cache = ContiguousCache((spec.streams(DIM),), slack=0)
        for x in x_ND.split(chunks):
            built(x, Context.of((len(x),), cache=cache, forms=READABLE))
            cache.advance((len(x),))
        rows = cache.rows(0, "key")[0]
        kept.append(rows.held())
    for other in kept[1:]:
        torch.testing.assert_close(other, kept[0], rtol=0, atol=1e-6)  # projections of other sizes sum in other orders


def test_cost_counts_scores_twice_where_places_differ():
    spec = VALUES["rope"]
    plain, wide = spec.cost(DIM, 7, 7).flops, spec.cost(DIM, 8, 8).flops
    projections = 2 * DIM * 6 * (4 + 2 + 2 + 4)
    assert plain == 7 * projections + 2 * 2 * 24 * sum(range(1, 8))
    assert wide == 8 * projections + 2 * 3 * 24 * (sum(range(1, 8)) + 7)


def test_as_long_as_nothing_is_dropped_it_is_full_attention():
    spec = VALUES["rope"]
    x_ND = torch.randn(7, DIM, dtype=torch.float64)
    ours, full = (build(one).double()(x_ND, Context.of((7,)))[0] for one in (spec, replace(spec, window=None, sinks=0)))
    torch.testing.assert_close(ours, full, rtol=1e-10, atol=1e-10)


def test_fast_equals_readable_and_entropy_is_told():
    built, x_ND = build(VALUES["rope"]).double(), torch.randn(19, DIM, dtype=torch.float64)
    lengths, want = (11, 1, 7), frozenset({"attention"})
    results = [built(x_ND, Context.of(lengths, forms=forms, want=want)) for forms in (FAST, READABLE)]
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-10, atol=1e-10)
    assert results[0][1]["entropy_NH"].shape == (19, 4)


@pytest.mark.parametrize(
    "wrong",
    [{"window": None}, {"sinks": -1}, {"rope": Rope(width=6, scaling=DynamicNtk(factor=2.0, original_length=8))}],
)
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match=r"GroupedQuery\.sinks"):
        replace(VALUES["rope"], **wrong)


def test_the_check_catches_positions_of_the_text(monkeypatch):
    """Sinks seen from where a token stands in the text, not in the cache."""
    monkeypatch.setattr(
        Rope, "frequencies", lambda rope, device=None, prompt=None: torch.tensor([1.0, 0.3], dtype=torch.float64)
    )
    monkeypatch.setattr(module, "replace", lambda context, positions_N: context)
    with pytest.raises(AssertionError, match="output differs"):
        check_sinks(run_as(attend_readable))
