"""The kernel of activations and gates against its torch sibling: every activation, odd widths, far numbers."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.gate import ACTIVATIONS, Gate, gate_kernel, gate_readable
from cutaway.ops.cpu.list import Laid, Operations

# exp and tanh are within 2 units in the last place: 1 + tanh near -1 is off by 1e-7 in either form, times a gate of
# up to 16 and an `up` of up to 4. erf's tail is within 1 part in 100,000 of its own tiny size.
CLOSE = {"rtol": 2e-6, "atol": 2e-6}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("width", [1, 15, 16, 33, 96])
def test_every_activation_at_any_width(kernels, name, width):
    torch.manual_seed(width)
    gate, up = torch.randn(7, width) * 4, torch.randn(7, width)
    torch.testing.assert_close(gate_kernel(gate, up, name), gate_readable(gate, up, name), **CLOSE)
    torch.testing.assert_close(gate_kernel(gate, None, name), gate_readable(gate, None, name), **CLOSE)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_from_end_to_end(kernels, name):
    x = torch.cat((torch.linspace(-120, 120, 4001), torch.linspace(-0.1, 0.1, 501), torch.tensor([0.0, -0.0])))[None]
    exact = gate_readable(x.double(), None, name)
    # sigmoid's tail below -87 is 0 (true value below 2e-38); products of a large number with a tiny one lie below 1e-6.
    torch.testing.assert_close(gate_kernel(x, None, name).double(), exact, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_and_infinity_is_no_trap(kernels, name):
    y = gate_kernel(torch.tensor([[float("nan"), float("inf"), 1.0]]), None, name)[0]
    assert y[0].isnan() and not y[1].isnan() and y[2] > 0


def test_no_rows_and_no_such_activation(kernels):
    assert gate_kernel(torch.empty(0, 32), None, "silu").shape == (0, 32)
    with pytest.raises(BadInput, match="softmax"):
        gate_kernel(torch.ones(1, 4), None, "softmax")


@pytest.mark.parametrize("rows", [1, 4, 19])
def test_side_by_side_into_the_layout_of_a_matmul(kernels, rows):
    """Gate and up as one product gives them, side by side, into tiles."""
    both = torch.randn(rows, 2 * 64)
    expected = gate_readable(both[:, :64], both[:, 64:], "silu")
    for int8 in (False, True):
        laid = Laid(rows, 64, int8=int8)
        told = Gate(both.data_ptr(), both.data_ptr() + 64 * 4, None, laid.structure, 128, 128, 0, rows, 64)
        told.activation = ACTIVATIONS.index("silu")
        operations = Operations()
        operations.append("gate", told)
        operations.run()
        step = expected.unflatten(1, (-1, 32)).abs().amax(-1, keepdim=True) / 127 if int8 else torch.zeros(())
        off = (laid.rows() - expected).unflatten(1, (-1, 32)).abs()
        assert (off <= step * 0.501 + 2e-6).all()
