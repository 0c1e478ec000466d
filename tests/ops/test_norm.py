from __future__ import annotations

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from cutaway.lab.checks.norm import check_layer_norm, check_rms_norm
from cutaway.ops.norm import layer_norm_fast, layer_norm_readable, rms_norm_fast, rms_norm_readable

RMS = (rms_norm_readable, rms_norm_fast)
LAYER = (layer_norm_readable, layer_norm_fast)


@pytest.mark.parametrize("norm", RMS)
def test_rms_norm_against_its_oracle(norm):
    check_rms_norm(norm)


@pytest.mark.parametrize("norm", LAYER)
def test_layer_norm_against_its_oracle(norm):
    check_layer_norm(norm)


@pytest.mark.parametrize("norm", RMS)
@pytest.mark.parametrize(("twin", "offset"), [(LlamaRMSNorm, 0.0), (Gemma2RMSNorm, 1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rms_norm_rounds_as_llama_and_gemma_do(norm, twin, offset, dtype):
    torch.manual_seed(0)
    other = twin(64, eps=1e-5).to(dtype)
    other.weight.data.normal_(mean=1.0 - offset, std=0.5)
    x_ND = torch.randn(200, 64, dtype=dtype)
    got, expected = norm(x_ND, other.weight, eps=1e-5, offset=offset), other(x_ND)
    if dtype == torch.float32:
        torch.testing.assert_close(got, expected, rtol=5e-7, atol=1e-7)  # a few float32 roundings
    else:
        # The other family's order moves a fifth of the numbers; a last bit in float32 moves next to none.
        assert (got != expected).float().mean() < 0.002
        swapped = norm(x_ND, other.weight - (1.0 - 2.0 * offset), eps=1e-5, offset=1.0 - offset)
        assert (swapped != expected).float().mean() > 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_equals_torch(dtype, bias):
    torch.manual_seed(0)
    twin = torch.nn.LayerNorm(64, bias=bias, dtype=dtype)
    twin.weight.data.normal_()
    x_ND = torch.randn(50, 64, dtype=dtype)
    for norm in LAYER:
        # One rounding of the result, since the sums may end in another last bit.
        torch.testing.assert_close(norm(x_ND, twin.weight, twin.bias, eps=1e-5), twin(x_ND))


@pytest.mark.parametrize("norm", RMS)
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_gradients_in_half_precision_reach_input_and_weight(norm, offset):
    x_ND = torch.randn(3, 8, dtype=torch.bfloat16, requires_grad=True)
    weight_D = torch.ones(8, dtype=torch.bfloat16, requires_grad=True)
    norm(x_ND, weight_D, eps=1e-6, offset=offset).sum().backward()
    assert x_ND.grad is not None and x_ND.grad.dtype == torch.bfloat16
    assert weight_D.grad is not None and weight_D.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("norm", RMS)
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_strided_input_is_normed_alike_and_left_alone(norm, offset):
    wide = torch.randn(4, 16)
    before = wide.clone()
    got = norm(wide[:, ::2], torch.ones(8), eps=1e-6, offset=offset)
    torch.testing.assert_close(got, norm(wide[:, ::2].contiguous(), torch.ones(8), eps=1e-6, offset=offset))
    assert torch.equal(wide, before)


def test_float32_squares_that_overflow_give_zero_in_both_forms():
    x_ND = torch.full((1, 4), 1e20)
    for norm in RMS:
        assert norm(x_ND, torch.ones(4), eps=1e-6).tolist() == [[0.0] * 4]


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(1, 576), (576,), (1, 1, 64), (1, 1)])
def test_one_row_without_gradients_takes_its_own_way_to_the_same_numbers(shape, offset):
    make = torch.Generator().manual_seed(3)
    x, weight = torch.randn(shape, generator=make) * 7, torch.randn(shape[-1], generator=make)
    for row in (x, torch.zeros(shape), torch.full(shape, torch.nan)):
        before = row.clone()
        with torch.inference_mode():
            fast, slow = (f(row, weight, eps=1e-5, offset=offset) for f in (rms_norm_fast, rms_norm_readable))
        # float32 sums of some hundred squares in another order
        assert torch.allclose(fast, slow, rtol=1e-5, atol=1e-6, equal_nan=True)
        assert fast.shape == row.shape and torch.equal(row.nan_to_num(), before.nan_to_num())
