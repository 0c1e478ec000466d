"""Attention over chosen blocks is dense attention under the mask that the choice spells out, forward and gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.ops import block_sparse
from cutaway.ops.attend import attention_weights
from cutaway.ops.block_sparse import attend_blocks_gathered, attend_blocks_readable
from cutaway.ops.visible import Visible

FORMS = [attend_blocks_readable, attend_blocks_gathered]


def some_choice(see: Visible, groups: int, block: int, most: int, make: torch.Generator) -> torch.Tensor:
    """For each query and kv head some blocks in any order, at times none; later ones too, which are not seen."""
    rows = []
    for queries, keys in zip(see.queries, see.keys, strict=True):
        for _ in range(queries * groups):
            blocks = torch.randperm(-(-keys // block) + 1, generator=make)[:most]
            row = torch.full((most,), -1)
            row[: len(blocks)] = blocks.where(torch.rand(len(blocks), generator=make) < 0.7, -1)
            rows.append(row)
    return torch.stack(rows).unflatten(0, (-1, groups))


def dense(q, k, v, see, chosen_NGJ, *, block, scale):
    """Every score, then the mask: one sequence and kv head at a time."""
    outputs = []
    parts = zip(q.split(see.queries), k.split(see.keys), v.split(see.keys), chosen_NGJ.split(see.queries), strict=True)
    for index, (q_THK, k_SGK, v_SGK, chosen_TGJ) in enumerate(parts):
        groups = k_SGK.shape[1]
        mine = []
        for g in range(groups):
            number_S = torch.arange(k_SGK.shape[0]) // block
            mask_TS = (chosen_TGJ[:, g, :, None] == number_S).any(1) & see.mask(index)
            share = slice(g * q.shape[1] // groups, (g + 1) * q.shape[1] // groups)
            weights_RTS = attention_weights(q_THK[:, share], k_SGK[:, g : g + 1], mask_TS, scale=scale)
            mine.append((weights_RTS @ v_SGK[:, g]).transpose(0, 1))
        outputs.append(torch.cat(mine, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 7)), min_size=1, max_size=3), st.integers(1, 5))
def test_it_is_dense_attention_under_the_mask(form, sizes, block):
    see = Visible(queries=tuple(new for new, _ in sizes), keys=tuple(new + old for new, old in sizes))
    make = torch.Generator().manual_seed(sum(see.keys) * 10 + block)
    shapes = ((sum(see.queries), 4, 3), (sum(see.keys), 2, 3), (sum(see.keys), 2, 5))
    inputs = [torch.randn(shape, generator=make, dtype=torch.float64, requires_grad=True) for shape in shapes]
    chosen_NGJ = some_choice(see, 2, block, 3, make)
    found = []
    for attend in (form, dense):
        y_NHV = attend(*inputs, see, chosen_NGJ, block=block, scale=0.8)
        slope = torch.sin(torch.arange(y_NHV.numel(), dtype=torch.float64)).view(y_NHV.shape)
        found.append([y_NHV, *torch.autograd.grad((y_NHV * slope).sum(), inputs)])
    for ours, expected in zip(*found, strict=True):
        assert torch.allclose(ours, expected, atol=1e-12)  # float64 sums in another order


@pytest.mark.parametrize("form", FORMS)
def test_the_dtype_stays_and_nothing_is_a_shape_too(form):
    see, chosen_NGJ = Visible(queries=(3,), keys=(3,)), torch.zeros(3, 1, 1, dtype=torch.long)
    rows = torch.randn(3, 1, 4, dtype=torch.bfloat16)
    assert form(rows, rows, rows, see, chosen_NGJ, block=2, scale=1.0).dtype == torch.bfloat16
    none = Visible(queries=(0,), keys=(3,))
    assert form(rows[:0], rows, rows, none, chosen_NGJ[:0], block=2, scale=1.0).shape == (0, 1, 4)
    empty = Visible(queries=(), keys=())
    assert form(rows[:0], rows[:0], rows[:0], empty, chosen_NGJ[:0], block=2, scale=1.0).shape == (0, 1, 4)
    told = (tensor.to("meta") for tensor in (rows, rows, rows))
    assert form(*told, see, chosen_NGJ.to("meta"), block=2, scale=1.0).shape == (3, 1, 4)


@pytest.mark.parametrize("form", FORMS)
def test_without_causality_all_of_a_chosen_block_is_seen(form):
    see = Visible(queries=(1, 2), keys=(4, 5), causal=False)
    make = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(n, 2, 3, generator=make, dtype=torch.float64) for n in (3, 9, 9))
    chosen_NGJ = torch.tensor([[0, -1], [1, 2], [2, 0]])[:, None].expand(-1, 2, -1)
    ours = form(q, k, v, see, chosen_NGJ, block=2, scale=1.0)
    assert torch.allclose(ours, dense(q, k, v, see, chosen_NGJ, block=2, scale=1.0), atol=1e-12)


def test_runs_of_queries_join_without_a_seam(monkeypatch):
    see, make = Visible(queries=(9, 4), keys=(9, 6)), torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(n, 2, 3, generator=make) for n in (13, 15, 15))
    chosen_NGJ = some_choice(see, 2, 2, 3, make)
    whole = attend_blocks_gathered(q, k, v, see, chosen_NGJ, block=2, scale=1.0)
    monkeypatch.setattr(block_sparse, "RUN", 4)
    assert torch.equal(attend_blocks_gathered(q, k, v, see, chosen_NGJ, block=2, scale=1.0), whole)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("told", [{"window": 2}, {"prefix": (1,)}])
def test_a_rule_that_it_does_not_follow_is_refused(form, told):
    rows, chosen_NGJ = torch.randn(2, 1, 4), torch.zeros(2, 1, 1, dtype=torch.long)
    with pytest.raises(BadInput, match="without a window"):
        form(rows, rows, rows, Visible(queries=(2,), keys=(2,), **told), chosen_NGJ, block=2, scale=1.0)
