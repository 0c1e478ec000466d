"""Each fast form is the readable one within what it says it rounds, for every format, count of rows and odd shape."""

from __future__ import annotations

import pytest
import torch

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.multiply import fast
from cutaway.ops.multiply.bags import Bags
from cutaway.ops.multiply.fast import multiply_bfloat16, multiply_exact, multiply_fast
from cutaway.ops.multiply.nibbles import Nibbles
from cutaway.ops.multiply.readable import multiply_readable

# Of the sizes of all terms. fp32: sums in another order. bfloat16: four roundings of 2^-9, of terms that may be larger
# than x w, since scale (q - 8) and the zero partly cancel: by a factor of four at most in these matrices.
FP32, BF16 = 2e-5, 4 * 4 * 2.0**-9

FORMS = {multiply_fast: BF16, multiply_exact: FP32, multiply_bfloat16: BF16}


def sizes(x, packed):
    return x.abs() @ dequantise(packed.blocks, packed.format).abs().T


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rows", [1, 33, 64])
@pytest.mark.parametrize("count", [0, 1, 8, 9, 16, 17])
def test_fast_is_readable(form, name, rows, count, matrix):
    packed = matrix(name, rows, 256)
    x = torch.randn(count, 256)
    found, expected = form(x, packed), multiply_readable(x, packed)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert ((found - expected).abs() <= FORMS[form] * sizes(x, packed)).all()


@pytest.mark.parametrize("name", ["q5_0", "q6_k", "q8_0"])
def test_only_4_bit_weights_are_rounded(name, matrix):
    packed = matrix(name, 64, 256)
    x = torch.randn(1, 256)
    assert ((multiply_fast(x, packed) - multiply_readable(x, packed)).abs() <= FP32 * sizes(x, packed)).all()


def test_more_than_16_rows_are_not_rounded(matrix):
    packed = matrix("q4_1", 64, 256)
    x = torch.randn(Nibbles.most + 1, 256)
    assert ((multiply_fast(x, packed) - multiply_readable(x, packed)).abs() <= FP32 * sizes(x, packed)).all()


@pytest.mark.parametrize(("pays", "room"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("count", [17, 64, 65])
def test_a_batch_in_bfloat16_takes_what_is_fastest(count, pays, room, matrix, monkeypatch):
    """17 to 64 rows: unpacked weights where those pay and have room, half-bytes otherwise; beyond, never half-bytes."""
    monkeypatch.setattr(fast, "bfloat16_pays", lambda: pays)
    packed = matrix("q4_1", 64, 256)
    if not room:
        monkeypatch.setattr(packed, "many", lambda: None)
    x = torch.randn(count, 256).bfloat16()
    found, expected = multiply_fast(x, packed), multiply_readable(x.float(), packed)
    assert found.dtype == torch.bfloat16
    assert ((found.float() - expected).abs() <= BF16 * sizes(x.float(), packed)).all()
    assert (Nibbles in packed.copies) == (count <= 64 and not (pays and room))


@pytest.mark.parametrize("form", FORMS)
def test_x_may_lie_anyhow(form, matrix):
    packed = matrix("q4_1", 64, 256)
    x = torch.randn(256, 3).T
    torch.testing.assert_close(form(x, packed), form(x.contiguous(), packed), rtol=0, atol=0)


@pytest.mark.parametrize("form", [multiply_fast, multiply_exact])
@pytest.mark.parametrize("count", [1, 20])
def test_gradient_is_that_of_the_readable_form(form, count, matrix):
    packed, dy = matrix("q4_1", 64, 256), torch.randn(count, 64)
    x = torch.randn(count, 256, requires_grad=True)
    (expected,) = torch.autograd.grad(multiply_readable(x, packed), x, dy)
    (found,) = torch.autograd.grad(form(x, packed), x, dy)
    w = dequantise(packed.blocks, packed.format)
    assert ((found - expected).abs() <= FP32 * (dy.abs() @ w.abs())).all()


@pytest.mark.parametrize("form", FORMS)
def test_without_any_kernel_it_still_multiplies(form, matrix, monkeypatch):
    for kind in (Nibbles, Bags):
        monkeypatch.setattr(kind, "fits", lambda format, rows: False)
    packed, x = matrix("q4_1", 64, 256), torch.randn(1, 256)
    found = form(x, packed)
    assert packed.copies == {}
    assert ((found - multiply_readable(x, packed)).abs() <= FORMS[form] * sizes(x, packed)).all()


@pytest.mark.parametrize("form", FORMS)
def test_it_runs_without_numbers(form, matrix):
    packed = matrix("q4_1", 64, 256).to("meta")
    y = form(torch.empty(1, 256, device="meta"), packed)
    assert y.is_meta and y.shape == (1, 64)
