"""The kernel of norms against its torch sibling: odd widths, offsets, biases, and rows of large and tiny numbers."""

from __future__ import annotations

import pytest
import torch

from cutaway.ops.cpu.list import Laid, Operations, pointer
from cutaway.ops.cpu.multiply import rounded
from cutaway.ops.cpu.norm import Norm, norm_kernel, norm_readable

# fp32 sums of up to 1,000 squares in another order: a few parts in 10 million, of results of size 1.
CLOSE = {"rtol": 3e-6, "atol": 3e-6}


@pytest.mark.parametrize("centred", [False, True], ids=["rms", "layer"])
@pytest.mark.parametrize("width", [1, 7, 16, 31, 64, 100, 576, 1000])
def test_any_width_by_the_equation(kernels, width, centred):
    torch.manual_seed(width)
    x, weight, bias = torch.randn(5, width) * 3 + 1, torch.randn(width), torch.randn(width)
    for offset, added in ((0.0, None), (1.0, bias)):
        told = {"eps": 1e-3, "offset": offset, "centred": centred}
        torch.testing.assert_close(
            norm_kernel(x, weight, added, **told), norm_readable(x, weight, added, **told), **CLOSE
        )


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_any_size_of_numbers(kernels, size):
    x, weight = torch.randn(3, 96) * size, torch.randn(96)
    told = {"eps": 1e-5, "centred": False}
    torch.testing.assert_close(norm_kernel(x, weight, **told), norm_readable(x, weight, **told), rtol=3e-6, atol=1e-6)


def test_leading_axes_and_no_rows(kernels):
    x, weight = torch.randn(2, 3, 4, 32), torch.randn(32)
    torch.testing.assert_close(norm_kernel(x, weight, eps=1e-5), norm_readable(x, weight, eps=1e-5), **CLOSE)
    assert norm_kernel(torch.empty(0, 32), weight, eps=1e-5).shape == (0, 32)


def test_nan_stays(kernels):
    x = torch.ones(2, 48)
    x[1, 40] = float("nan")
    y = norm_kernel(x, torch.ones(48), eps=1e-5)
    assert y[0].isfinite().all() and y[1].isnan().all()


def told(x, weight, y, *, chosen=None, laid=None, count=None, adds=False):
    width, rows = x.shape[-1], len(x) if count is None else count
    tiles = () if laid is None else (laid.structure,)
    structure = Norm(*map(pointer, (x, weight, None, y, chosen)), *tiles)
    for name, value in {"x_outer": width, "y_outer": width, "count": rows, "inner": 1, "width": width}.items():
        setattr(structure, name, value)
    structure.adds, structure.eps = adds, 1e-5
    return structure


def run(structure):
    operations = Operations()
    operations.append("norm", structure)
    operations.run()


def test_chosen_rows_and_added_ones(kernels):
    x, weight, y = torch.randn(6, 64), torch.randn(64), torch.randn(2, 64)
    chosen, before = torch.tensor([4, 1], dtype=torch.int32), y.clone()
    run(told(x, weight, y, chosen=chosen, count=2, adds=True))
    torch.testing.assert_close(y, before + norm_readable(x[[4, 1]], weight, eps=1e-5), **CLOSE)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 16, 17, 23])
def test_the_layout_of_a_matmul(kernels, rows):
    """The result laid out for a matmul, as floats and as bytes, is what `rounded` makes of the plain result."""
    x, weight = torch.randn(rows, 96), torch.randn(96)
    expected = norm_readable(x, weight, eps=1e-5)
    for int8 in (False, True):
        laid = Laid(rows, 96, int8=int8)
        run(told(x, weight, None, laid=laid))
        found = laid.rows()
        if not int8:
            torch.testing.assert_close(found, expected, **CLOSE)
            continue
        # A number is off by half a step at most, and by what fp32 rounds: bound of ops/cpu/pack.py.
        step = expected.unflatten(1, (-1, 32)).abs().amax(-1, keepdim=True) / 127
        off = (found - expected).unflatten(1, (-1, 32)).abs()
        assert (off <= step * 0.501).all()
        codes = rounded(expected).codes_NG.flatten(1)
        assert (laid.codes() - codes.int()).abs().max() <= 1  # of a near tie, fp32's rounding decides
        assert (laid.codes() == codes).float().mean() > 0.99
