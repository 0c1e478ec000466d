from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.lab.checks.experts import check_dispatch
from cutaway.ops.dispatch import dispatch_readable, dispatch_sorted

BOTH = pytest.mark.parametrize("dispatch", [dispatch_readable, dispatch_sorted])


def doubled(index):
    return lambda x_nD: x_nD * (index + 1)


@BOTH
def test_against_its_oracle(dispatch):
    check_dispatch(dispatch)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(1, 6), st.data())
def test_both_forms_agree_however_uneven_the_shares(tokens, experts, data):
    places = data.draw(st.integers(1, experts))
    chosen = [data.draw(st.permutations(range(experts)))[:places] for _ in range(tokens)]
    chosen_NJ = torch.tensor(chosen, dtype=torch.long).reshape(tokens, places)
    x_ND, weights_NJ = torch.randn(tokens, 3, dtype=torch.float64), torch.rand(tokens, places, dtype=torch.float64)
    calls = [doubled(index) for index in range(experts)]
    slow = dispatch_readable(x_ND, chosen_NJ, weights_NJ, calls)
    # Float64 sums of a few terms in the same order.
    torch.testing.assert_close(dispatch_sorted(x_ND, chosen_NJ, weights_NJ, calls), slow, rtol=1e-14, atol=1e-14)


def test_an_expert_works_once_and_one_without_tokens_not_at_all():
    seen = []

    def counted(index):
        def call(x_nD):
            seen.append((index, x_nD.shape[0]))
            return x_nD

        return call

    chosen_NJ = torch.tensor([[3, 0], [0, 1], [0, 3]])
    dispatch_sorted(torch.randn(3, 2), chosen_NJ, torch.ones(3, 2), [counted(index) for index in range(5)])
    assert seen == [(0, 3), (1, 1), (3, 2)]


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_dtype_of_the_tokens_is_kept_under_wider_weights(dispatch, dtype):
    x_ND, weights_NJ = torch.randn(4, 3).to(dtype), torch.rand(4, 2, dtype=torch.float64)
    y_ND = dispatch(x_ND, torch.tensor([[0, 1]] * 4), weights_NJ, [doubled(0), doubled(1)])
    assert y_ND.dtype == dtype


@BOTH
def test_meta(dispatch):
    x_ND, chosen_NJ = torch.empty(5, 3, device="meta"), torch.empty(5, 2, dtype=torch.long, device="meta")
    y_ND = dispatch(x_ND, chosen_NJ, torch.empty(5, 2, device="meta"), [doubled(index) for index in range(4)])
    assert y_ND.is_meta and y_ND.shape == (5, 3)
