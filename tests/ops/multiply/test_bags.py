"""Bags of bytes give the fp32 product of every format, also for odd numbers of rows."""

from __future__ import annotations

import pytest
import torch

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.multiply.bags import Bags
from cutaway.ops.multiply.parts import take_apart

pytestmark = pytest.mark.skipif(not Bags.fits(FORMATS["q8_0"], 1), reason="this torch has no fbgemm")


@pytest.mark.parametrize("name", [*FORMATS, "int8:tensor", "int8:group=96,asymmetric", "int4:group=48"])
@pytest.mark.parametrize("rows", [1, 7, 16, 203])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_product_is_that_of_the_weights(name, rows, count, matrix):
    packed = matrix(name, rows, 768)
    x = torch.randn(count, 768)
    w = dequantise(packed.blocks, packed.format).double()
    y = x.double() @ w.T
    found = Bags.of(packed.blocks, packed.format).times(x)
    assert found.shape == y.shape and found.dtype == torch.float32
    # Sums of 768 fp32 products: 1e-5 of the sizes of all terms, where those of q - centre and offset stand apart.
    parts = take_apart(packed.blocks, packed.format)
    sizes = (parts.q_RC.double().unflatten(1, (-1, parts.group)) - parts.centre).abs() * parts.scale_RG[
        :, :, None
    ].abs()
    if parts.offset_RG is not None:
        sizes = sizes + parts.offset_RG.abs()[:, :, None]
    assert ((found - y).abs() <= 1e-5 * (x.abs().double() @ sizes.flatten(1).T)).all()


def test_the_dtype_of_x_comes_back(matrix):
    packed = matrix("q8_0", 8, 64)
    assert Bags.of(packed.blocks, packed.format).times(torch.randn(1, 64).bfloat16()).dtype == torch.bfloat16


def test_threads_change_nothing(matrix):
    packed, x = matrix("q6_k", 64, 512), torch.randn(3, 512)
    bags, before = Bags.of(packed.blocks, packed.format), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = bags.times(x)
        torch.set_num_threads(2)
        assert torch.equal(one, bags.times(x))
    finally:
        torch.set_num_threads(before)
