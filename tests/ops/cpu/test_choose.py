"""The k highest against a sort: ties, odd widths, more than there are runs, and scores that are not finite."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.choose import (
    Draws,
    cut_kernel,
    cut_readable,
    top_kernel,
    top_readable,
    warm_kernel,
    warm_readable,
)

# log-sum-exp of 50,000 in fp32, in another order.
CLOSE = {"rtol": 1e-6, "atol": 3e-6}


def same(x, k):
    values, indices, sums = top_kernel(x, k)
    right_values, right_indices, right_sums = top_readable(x, k)
    assert torch.equal(values, right_values)
    assert torch.equal(indices, right_indices)
    torch.testing.assert_close(sums, right_sums, equal_nan=True, **CLOSE)


@pytest.mark.parametrize("width", [1, 2, 15, 64, 65, 1000, 49152])
@pytest.mark.parametrize("k", [1, 2, 20, 300])
def test_the_highest_in_their_order(kernels, width, k):
    torch.manual_seed(width)
    same(torch.randn(3, width) * 5, min(k, width))


def test_of_equal_ones_the_first_comes_first(kernels):
    same(torch.zeros(2, 500), 40)
    same(torch.randint(0, 4, (4, 1000)).float(), 50)


# The fixture is a library, which no example changes.
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), width=st.integers(1, 300), data=st.data())
def test_any_row(kernels, seed, width, data):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, width, generator=generator).mul(4).round()  # whole numbers: many ties
    same(x, data.draw(st.integers(1, width)))


def test_masked_scores_come_last(kernels):
    x = torch.randn(1, 300)
    x[0, ::2] = float("-inf")
    values, indices, sums = top_kernel(x, 150)
    assert (indices % 2 == 1).all() and values.isfinite().all()
    assert sums.isnan().all()  # not finite: whoever masks knows; a model's own logits are refused


def test_rows_apart_and_an_impossible_k(kernels):
    x = torch.randn(4, 200)[:, :130]  # rows that do not follow each other at once
    same(x, 7)
    for k in (0, 131):
        with pytest.raises(BadInput):
            top_kernel(x, k)


def test_nan_is_told(kernels):
    x = torch.randn(2, 100)
    x[1, 3] = float("nan")
    assert top_kernel(x, 5)[2].isnan().tolist() == [False, True]


@pytest.mark.parametrize("width", [5, 64, 1000])
def test_sums_at_a_temperature(kernels, width):
    torch.manual_seed(width)
    x_NV, heats_N = torch.randn(4, width) * 5, torch.tensor([1.0, 0.4, 3.0, 1e30])
    ours, right = warm_kernel(x_NV, heats_N), warm_readable(x_NV.double(), heats_N.double())
    for found, expected in zip(ours, right, strict=True):
        # Each exponential within 2 units in the last place, and sums of 64 to 1,000 of them in float32.
        torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("width", [40, 700, 5000])
@pytest.mark.parametrize("k", [1, 20, 40])
def test_what_cuts_leave(kernels, width, k):
    """Rows of each kind in one call: top-k below and above k, a nucleus that fits and one that does not, min-p."""
    torch.manual_seed(width + k)
    cuts = [(5, 1.0, 0.0), (30, 1.0, 0.0), (width, 0.5, 0.0), (width, 0.999, 0.0), (width, 1.0, 0.2), (width, 1.0, 0.0)]
    cuts += [(12, 0.8, 0.1), (1, 0.01, 1.0), (0, 1.0, 0.0)]
    limits, top_p, min_p = zip(*((min(limit, width), p, least) for limit, p, least in cuts), strict=True)
    for heat in (1.0, 0.3, 2.5, 1e30):
        x_NV, draws = torch.randn(len(cuts), width) * 3, Draws([heat] * len(cuts), limits, top_p, min_p)
        (kept_N, running_Nk), (right_N, right_Nk) = cut_kernel(x_NV, k, draws), cut_readable(x_NV, k, draws)
        assert kept_N.tolist() == right_N.tolist()
        for row, limit in enumerate(limits):
            torch.testing.assert_close(running_Nk[row, : min(limit, k)], right_Nk[row, : min(limit, k)])
    assert {0, 1} <= set(kept_N.tolist())
