from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.lab.checks.alibi import check_alibi, slopes
from cutaway.lab.checks.mixer import check_mixer
from cutaway.nn.alibi import Alibi, distances
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.positions import Rope
from cutaway.ops.attend import attend_readable, attend_sdpa
from cutaway.ops.forms import FAST, READABLE
from cutaway.ops.tiled import attend_tiled
from cutaway.ops.visible import Visible

DIM = 24


def build(spec):
    torch.manual_seed(0)
    built = spec.build(DIM)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return built


ALIBI = Alibi()


def run_as(attend, alibi=ALIBI):
    def run(q_THK, k_TGK, v_TGK, scale):
        context = Context.of((len(q_THK),))
        see = context.visible(context.lengths)
        return attend(q_THK, k_TGK, v_TGK, see, scale=scale, bias=alibi.bias(see, q_THK.shape[1], context))

    return run


@pytest.mark.parametrize("attend", [attend_readable, attend_sdpa, attend_tiled])
def test_it_is_the_equation(attend):
    check_alibi(run_as(attend))


def test_the_check_catches_other_slopes():
    with pytest.raises(AssertionError, match="1 heads"):
        check_alibi(run_as(attend_readable, Alibi(steepest=4.0)))


@pytest.mark.parametrize("heads", range(1, 41))
def test_slopes_are_those_of_the_papers_code(heads):
    assert Alibi().slopes(heads) == pytest.approx(slopes(heads), rel=1e-12)
    assert len(set(slopes(heads))) == heads


def test_the_papers_own_example():
    assert Alibi().slopes(8) == tuple(2.0**-h for h in range(1, 9))


@pytest.mark.parametrize("spec", [{}, {"window": 5}, {"softcap": 2.0, "window": 3}], ids=str)
def test_it_keeps_every_law(spec):
    value = GroupedQuery(heads=6, kv_heads=2, head_dim=4, alibi=Alibi(), **spec)
    check_mixer(build(value), value.streams(DIM), DIM)


def test_fast_equals_readable_and_entropy_is_told():
    built = build(GroupedQuery(heads=6, kv_heads=2, head_dim=4, alibi=Alibi()))
    x_ND = torch.randn(19, DIM)
    results = [
        built(x_ND, Context.of((11, 1, 7), forms=forms, want=frozenset({"attention"}))) for forms in (FAST, READABLE)
    ]
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-5)  # float32 sums in another order
    assert results[0][1]["entropy_NH"].shape == (19, 6)


def test_it_costs_nothing():
    """A bias is added, not multiplied: parameters, products and cache are those of attention without positions."""
    with_it, without = (GroupedQuery(heads=6, kv_heads=2, head_dim=4, alibi=one) for one in (Alibi(), None))
    assert with_it.cost(DIM, 3, 9) == without.cost(DIM, 3, 9)
    assert sum(one.numel() for one in build(with_it).parameters()) == with_it.cost(DIM, 3, 9).parameters
    cache = ContiguousCache((with_it.streams(DIM),))
    build(with_it)(torch.randn(9, DIM), Context.of((9,), cache=cache))
    assert cache.bytes == with_it.cost(DIM, 9, 9).cache_bytes


def test_it_is_transformers_mpt():
    from transformers.models.mpt.configuration_mpt import MptConfig
    from transformers.models.mpt.modeling_mpt import MptAttention, build_mpt_alibi_tensor

    theirs = MptAttention(MptConfig(d_model=DIM, n_heads=4, max_seq_len=16), 0).double()
    ours = GroupedQuery(heads=4, kv_heads=4, head_dim=DIM // 4, alibi=Alibi()).build(DIM).double()
    with torch.no_grad():
        for part, weight in zip((ours.query, ours.key, ours.value), theirs.Wqkv.weight.chunk(3), strict=True):
            part.weight.copy_(weight)
        ours.out.weight.copy_(theirs.out_proj.weight)
        x_ND = torch.randn(9, DIM, dtype=torch.float64)
        hidden_TT = torch.ones(9, 9, dtype=torch.bool).triu(1)
        expected, _ = theirs(x_ND[None], build_mpt_alibi_tensor(4, 9).double(), attention_mask=hidden_TT[None, None])
        got, _ = ours(x_ND, Context.of((9,)))
    # Their softmax is float32.
    torch.testing.assert_close(got, expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("heads", [1, 8, 12, 25])
def test_slopes_are_transformers_bloom(heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 3), heads, torch.float32)[:, 0, 1]  # at position 1
    torch.testing.assert_close(torch.tensor(Alibi().slopes(heads)), theirs)


def test_distances_within_a_rolling_cache():
    see = Visible(queries=(2,), keys=(6,), window=2, sinks=1)
    assert distances(see, 0, range(2), range(6)).tolist() == [[2, 3, 2, 1, 0, -1], [2, 4, 3, 2, 1, 0]]


@pytest.mark.parametrize("rule", [{}, {"window": 3}, {"window": 3, "sinks": 2}])
def test_a_tile_is_a_part_of_the_whole(rule):
    see, context = Visible(queries=(7, 2), keys=(9, 2), **rule), Context.of((7, 2))
    bias = ALIBI.bias(see, 3, context)
    assert torch.equal(bias.tile(0, range(2, 5), range(1, 8)), bias(0)[:, 2:5, 1:8])
    assert bias(0) is bias(0), "the whole is made once"


def test_impossible_values_are_refused():
    with pytest.raises(BadInput, match=r"Alibi\.steepest"):
        Alibi(steepest=0.0)
    with pytest.raises(BadInput, match=r"GroupedQuery\.alibi"):
        GroupedQuery(heads=2, kv_heads=1, head_dim=4, rope=Rope(width=4), alibi=Alibi())
    built = GroupedQuery(heads=2, kv_heads=1, head_dim=4, alibi=Alibi()).build(DIM)
    with pytest.raises(BadInput, match="bias of its own"):
        built(torch.randn(2, DIM), Context.of((2,), bias=lambda see: lambda index: torch.zeros(2, 2, 2)))
