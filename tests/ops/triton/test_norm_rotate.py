from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="the extra triton is not installed")

from cutaway.base.errors import BadInput
from cutaway.lab.checks.norm_rotate import SHAPES, check_norm_rotate
from cutaway.ops.norm_rotate import norm_rotate_readable
from cutaway.ops.rope import frequencies, tables
from cutaway.ops.triton.norm_rotate import norm_rotate_fused


def on(device, implementation):
    def there(*given, **told):
        return implementation(*(tensor.to(device) for tensor in given), **told).to(given[0].device)

    return there


def test_it_is_the_norm_and_then_the_rotation(device):
    check_norm_rotate(on(device, norm_rotate_fused), SHAPES[2:3])


@pytest.mark.proof
def test_every_shape(device):
    check_norm_rotate(on(device, norm_rotate_fused))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_readable_form_over_many_programs(device, dtype, interleaved):
    """37 tokens of 3 heads: seven programs, the last one with a row over. Forward and gradient, against float64."""
    make = torch.Generator().manual_seed(0)
    x_NHK, dy_NHK = (torch.randn(37, 3, 40, generator=make).to(dtype) for _ in range(2))
    weight_K = torch.randn(40, generator=make).to(dtype)
    table = tables(frequencies(1e4, 24), torch.arange(37), dtype=torch.float64, interleaved=interleaved)
    results = []
    for form, wide in ((on(device, norm_rotate_fused), dtype), (norm_rotate_readable, torch.float64)):
        leaves = [tensor.to(wide).requires_grad_() for tensor in (x_NHK, weight_K)]
        cos, sin = (one.to(dtype).to(wide) for one in table)
        y_NHK = form(*leaves, cos, sin, eps=1e-6, interleaved=interleaved)
        results.append([y_NHK.detach(), *torch.autograd.grad(y_NHK, leaves, dy_NHK.to(wide))])
    for name, ours, exact in zip(("y", "dx", "dweight"), *results, strict=True):
        assert ours.dtype == dtype, name
        # Sums are in float32 and each result is rounded once, by half a step; 111 rows are summed for dweight.
        error = float((ours.double() - exact).norm() / exact.norm())
        assert error < torch.finfo(dtype).eps * (8 if dtype == torch.float32 else 1), (name, error)


def test_a_head_too_wide_is_refused(device):
    with pytest.raises(BadInput, match="300 numbers"):
        norm_rotate_fused(torch.zeros(1, 1, 300), torch.ones(300), *torch.zeros(2, 1, 1, 300), eps=1e-6)


FAULTS = [
    ("column_K ^ 1 if INTERLEAVED else half_K", "half_K"),
    ("mask=turning_MK, other=1.0", "mask=turning_MK, other=0.0"),
    ("tl.sum(x_MK * x_MK, 1) / K + EPS", "tl.sum(x_MK * x_MK, 1) / BLOCK + EPS"),
    ("1.0 / tl.sqrt(tl.sum(x_MK * x_MK, 1) / K + EPS)", "1.0 / (tl.sqrt(tl.sum(x_MK * x_MK, 1) / K) + EPS)"),
    ("other_MK * scale_M[:, None] * other_gain_K", "other_MK * scale_M[:, None] * gain_K"),
    ("(row_M // heads)[:, None] * W + column_K[None, :]", "row_M[:, None] * 0 + column_K[None, :]"),
    ("h_MK - unit_MK * along_M[:, None]", "h_MK"),
    ("sin + table_M1 + partner_K[None, :]", "sin + table_M1 + column_K[None, :]"),
    ("tl.sum(g_MK * unit_MK, 0)", "tl.sum(h_MK * unit_MK, 0)"),
]


@pytest.mark.proof
@pytest.mark.parametrize(("right", "wrong"), FAULTS, ids=lambda text: text[:40])
def test_the_check_catches_a_kernel_with_a_fault(device, spoilt, right, wrong):
    fused = spoilt("norm_rotate", right, wrong)("norm_rotate").norm_rotate_fused
    with pytest.raises(AssertionError, match=r"output|gradient"):
        check_norm_rotate(on(device, fused))
