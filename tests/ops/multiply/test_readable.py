"""The readable product is that of the gguf package's weights; autograd gives its gradient."""

from __future__ import annotations

import pytest
import torch
from gguf import quants
from gguf.constants import GGMLQuantizationType

from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.multiply.readable import multiply_readable


@pytest.mark.parametrize("name", FORMATS)
def test_product_and_gradient(name, matrix):
    packed = matrix(name, 9, 256)
    w = torch.from_numpy(quants.dequantize(packed.blocks.numpy(), GGMLQuantizationType[name.upper()])).double()
    x, dy = torch.randn(3, 256, dtype=torch.float64, requires_grad=True), torch.randn(3, 9, dtype=torch.float64)
    y = multiply_readable(x, packed)
    y.backward(dy)
    torch.testing.assert_close(y, x.detach() @ w.T)
    torch.testing.assert_close(x.grad, dy @ w)


def test_x_decides_the_dtype(matrix):
    assert multiply_readable(torch.randn(2, 32).bfloat16(), matrix("q4_0", 4, 32)).dtype == torch.bfloat16
