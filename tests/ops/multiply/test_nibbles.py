"""The 4-bit kernel is off by no more than its roundings to bfloat16 allow, whatever the shape."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.scheme import precision_named
from cutaway.ops.multiply.nibbles import Nibbles
from cutaway.ops.multiply.parts import take_apart
from cutaway.ops.packed import Packed

FORMATS_TAKEN = ["q4_0", "q4_1", "q4_k"]
FOUR_BITS = [*FORMATS_TAKEN, "int4:row", "int4:group=96", "int4:group=128,asymmetric"]
# One rounding to bfloat16, which has 8 significant bits, is off by at most half a unit in the last of them.
ROUNDED = 2.0**-9


def bound(x: Tensor, packed: Packed, y: Tensor) -> Tensor:
    """The largest error that rounding x, scale, zero and y can make, and 1e-5 of all terms for sums in fp32."""
    parts = take_apart(packed.blocks, packed.format)
    q = parts.q_RC.float().unflatten(1, (-1, parts.group)) - 8
    zero = (8 - parts.centre) * parts.scale_RG + (0 if parts.offset_RG is None else parts.offset_RG)
    sizes = ((q * parts.scale_RG[:, :, None]).abs() + zero.abs()[:, :, None]).flatten(1)
    inside = (x.abs() @ sizes.T) * (2 * ROUNDED + ROUNDED**2 + 1e-5)
    return inside + (y.abs() + inside) * ROUNDED


@pytest.mark.skipif(sys.platform == "win32", reason="not used on Windows, where it is a plain loop")
@pytest.mark.parametrize("name", FOUR_BITS)
@pytest.mark.parametrize("rows", [16, 48, 64, 192, 208])
@pytest.mark.parametrize("count", [1, 3, 16])
def test_error_stays_within_the_roundings(name, rows, count, matrix):
    packed = matrix(name, rows, 768)
    x = torch.randn(count, 768)
    y = x @ dequantise(packed.blocks, packed.format).T
    found = Nibbles.of(packed.blocks, packed.format).times(x)
    assert found.dtype == x.dtype
    assert ((found - y).abs() <= bound(x, packed, y)).all()


@pytest.mark.skipif(sys.platform == "win32", reason="not used on Windows, where it is a plain loop")
def test_packing_in_slabs_is_packing_at_once(matrix, monkeypatch):
    packed = matrix("q4_1", 336, 64)
    whole = Nibbles.of(packed.blocks, packed.format)
    monkeypatch.setattr("cutaway.ops.multiply.nibbles.slabs", lambda rows, columns, multiple: [slice(0, rows)])
    at_once = Nibbles.of(packed.blocks, packed.format)
    monkeypatch.setattr(
        "cutaway.ops.multiply.nibbles.slabs",
        lambda rows, columns, multiple: [
            slice(start, min(start + multiple, rows)) for start in range(0, rows, multiple)
        ],
    )
    tiled = Nibbles.of(packed.blocks, packed.format)
    for other in (at_once, tiled):
        assert torch.equal(whole.q, other.q)
        assert torch.equal(whole.scale_and_zero, other.scale_and_zero)


def test_it_takes_whole_16_rows_of_4_bit_weights_only():
    if sys.platform != "win32":
        assert [name for name in FORMATS if Nibbles.fits(FORMATS[name], 32)] == FORMATS_TAKEN
    assert not Nibbles.fits(FORMATS["q4_0"], 24)
    assert not Nibbles.fits(precision_named("int4:group=48").format(96), 32)
    assert not Nibbles.fits(FORMATS["q4_0"], 0)
