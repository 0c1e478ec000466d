from __future__ import annotations

import pytest
import torch
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama

from cutaway.lab.checks.rope import check_rotate, check_tables
from cutaway.ops.rope import frequencies, rotate_fast, rotate_readable, tables

ROTATE = (rotate_readable, rotate_fast)


@pytest.mark.parametrize("rotate", ROTATE)
def test_rotation_against_its_oracle(rotate):
    check_rotate(rotate)


def test_tables_against_their_oracle():
    check_tables(tables)


def test_frequencies_fall_from_one_by_a_constant_ratio():
    found = frequencies(10000.0, 64).double()
    assert found[0] == 1.0 and found.shape == (32,)
    torch.testing.assert_close(
        found[1:] / found[:-1], torch.full((31,), 10000.0 ** (-2 / 64)).double(), rtol=3e-7, atol=0
    )


@pytest.mark.parametrize("rotate", ROTATE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_split_equals_transformers_llama(rotate, dtype):
    torch.manual_seed(0)
    x_NHK, positions_N = torch.randn(9, 3, 16).to(dtype), torch.arange(100, 109)
    cos, signed = tables(frequencies(10000.0, 16), positions_N, dtype=dtype)
    sin = torch.cat((signed[..., 8:],) * 2, -1)
    expected, _ = modeling_llama.apply_rotary_pos_emb(x_NHK, x_NHK, cos[:, 0], sin[:, 0])
    # bfloat16 rounds products and sum each: 2^-8 of numbers up to 4. The fused form rounds once less.
    torch.testing.assert_close(
        rotate(x_NHK, cos, signed), expected, rtol=0, atol=3e-2 if dtype != torch.float32 else 1e-6
    )


@pytest.mark.parametrize("rotate", ROTATE)
def test_interleaved_equals_transformers_gptj(rotate):
    torch.manual_seed(0)
    x_NHK, positions_N = torch.randn(9, 3, 16), torch.arange(100, 109)
    angles = positions_N[:, None] * frequencies(10000.0, 16)
    expected = modeling_gptj.apply_rotary_pos_emb(x_NHK[None], angles.sin()[None], angles.cos()[None])[0]
    cos, sin = tables(frequencies(10000.0, 16), positions_N, interleaved=True)
    torch.testing.assert_close(rotate(x_NHK, cos, sin, interleaved=True), expected, rtol=0, atol=1e-6)


def test_each_token_may_have_frequencies_of_its_own():
    own = torch.stack([frequencies(1e4, 8), frequencies(1e5, 8), frequencies(1e6, 8)])[:, None]
    cos, sin = tables(own, torch.tensor([5, 6, 7]))
    for n, theta in enumerate((1e4, 1e5, 1e6)):
        one_cos, one_sin = tables(frequencies(theta, 8), torch.tensor([5 + n]))
        assert torch.equal(cos[n : n + 1], one_cos) and torch.equal(sin[n : n + 1], one_sin)


@pytest.mark.parametrize("rotate", ROTATE)
@pytest.mark.parametrize("interleaved", [False, True])
def test_strided_queries_are_turned_alike_and_left_alone(rotate, interleaved):
    fused = torch.randn(4, 5, 8)
    before = fused.clone()
    cos, sin = tables(frequencies(1e4, 8), torch.arange(4), interleaved=interleaved)
    q_NHK = fused[:, :3]
    torch.testing.assert_close(rotate(q_NHK, cos, sin, interleaved), rotate(q_NHK.contiguous(), cos, sin, interleaved))
    together = rotate(fused, cos, sin, interleaved)[:, :3]
    torch.testing.assert_close(together, rotate(q_NHK, cos, sin, interleaved))
    assert torch.equal(fused, before)


@pytest.mark.parametrize("rotate", ROTATE)
@pytest.mark.parametrize("interleaved", [False, True])
def test_everything_stays_on_the_device_it_is_given(rotate, interleaved):
    cos, sin = tables(
        frequencies(1e4, 4, "meta"), torch.arange(3, device="meta"), dtype=torch.bfloat16, interleaved=interleaved
    )
    x_NHK = torch.empty(3, 2, 6, device="meta", dtype=torch.bfloat16)
    y_NHK = rotate(x_NHK, cos, sin, interleaved)
    assert y_NHK.is_meta and y_NHK.shape == x_NHK.shape and y_NHK.dtype == torch.bfloat16
