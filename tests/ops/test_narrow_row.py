"""Rows come back within half a step, each with a scale of its own; what is no number stays none."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.ops.narrow_row import decode, encode


@given(st.integers(1, 9), st.sampled_from([1e-9, 1e-5, 1e-2, 1.0, 1e3, 1e6]), st.integers(0, 99))
def test_each_number_comes_back_within_half_a_step(width, size, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(5, 3, width, generator=generator) * size
    kept = encode(rows)
    assert kept.dtype == torch.int8 and kept.shape == (5, 3, width + 2)
    top = rows.double().abs().amax(-1, keepdim=True)
    # fp16 rounds the scale up by 2^-10 of it at most, or by its smallest number.
    step = top / 127 + (top / 127 * 2.0**-10).clamp(min=2.0**-24)
    assert ((decode(kept).double() - rows.double()).abs() <= step / 2 + 1e-6 * top).all()


def test_by_hand_and_what_is_no_number():
    rows = torch.tensor([[127.0, -3.4, 0.0], [0.0, 0.0, 0.0]])
    assert decode(encode(rows)).tolist() == [[127.0, -3.0, 0.0], [0.0, 0.0, 0.0]]
    for bad in (float("nan"), float("inf"), 1e9):
        assert not decode(encode(torch.tensor([[1.0, bad, 0.0]]))).isfinite().all(), "seen by whoever looks at logits"


def test_each_token_and_head_has_a_scale_of_its_own():
    rows = torch.randn(6, 2, 8)
    rows[3, 1] *= 1000.0
    error = (decode(encode(rows)) - rows).abs().amax(-1)
    error[3, 1] = 0.0
    assert float(error.max()) < 0.02, "a large one spoils no other"
