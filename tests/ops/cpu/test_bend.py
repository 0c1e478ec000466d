"""GELU in training against its torch sibling."""

from __future__ import annotations

import pytest
import torch

from cutaway.ops import activation
from cutaway.ops.cpu import bend
from cutaway.ops.cpu.bend import activate_kernels, gelu_kernel, gelu_readable


@pytest.mark.parametrize("shape", [(1,), (15,), (16,), (3, 7, 11), (0, 4), (1000,)])
def test_any_shape_by_the_equation(kernels, shape):
    x = (4 * torch.randn(shape)).requires_grad_()
    wide, slope = x.detach().double().requires_grad_(), torch.randn(shape)
    y, expected = gelu_kernel(x), gelu_readable(wide)
    # The approximation's own 1.5e-7, times numbers of up to about 16.
    torch.testing.assert_close(y.detach(), expected.detach().float(), atol=3e-6, rtol=0)
    (found,), (right,) = torch.autograd.grad(y, x, slope), torch.autograd.grad(expected, wide, slope.double())
    torch.testing.assert_close(found, right.float(), atol=3e-6, rtol=0)


def test_far_out_and_what_is_no_number(kernels):
    x = torch.tensor([-100.0, -20.0, 0.0, 20.0, 1e30, float("inf"), float("nan")], requires_grad=True)
    y = gelu_kernel(x)
    (slope,) = torch.autograd.grad(y.nan_to_num().sum(), x, retain_graph=True)
    with pytest.raises(RuntimeError, match="handed on"):
        torch.autograd.grad(y.sum(), x)
    assert y[:6].tolist() == [0.0, 0.0, 0.0, 20.0, float(torch.tensor(1e30)), float("inf")] and bool(y[6].isnan())
    assert slope[:5].tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_only_what_learns_goes_through_it(kernels, monkeypatch):
    monkeypatch.setattr(bend, "gelu_kernel", None)
    x = torch.randn(20)
    assert torch.equal(activate_kernels(x, "gelu"), activation.FAST["gelu"](x))
    learns = x.clone().requires_grad_()
    assert torch.equal(activate_kernels(learns, "silu"), activation.FAST["silu"](learns))
    with torch.no_grad():
        assert torch.equal(activate_kernels(learns, "gelu"), activation.FAST["gelu"](x))
