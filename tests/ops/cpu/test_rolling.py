"""The rows of a rolling cache against torch: every store, both layouts of a turn, rows that stay or none."""

from __future__ import annotations

import pytest
import torch

from cutaway.nn.narrow_cache import encode
from cutaway.ops import rope
from cutaway.ops.cpu.cache import Store
from cutaway.ops.cpu.rolling import unroll_kernel, unroll_readable

CLOSE = {"rtol": 3e-6, "atol": 3e-6}  # fp32 products and sums in another order


def stored(dtype, rows):
    """A store of one sequence, rows head by head."""
    kept = [torch.randn(3, rows, width) for width in (48, 32)]
    kept = [encode(one) if dtype == torch.int8 else one.to(dtype) for one in kept]
    return Store.contiguous(*(one.transpose(0, 1) for one in kept), torch.tensor([0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "neighbours"])
@pytest.mark.parametrize("span", [(4, 7, 20), (0, 0, 1), (5, 3, 0)], ids=str)
def test_rows_and_turns(kernels, dtype, interleaved, span):
    torch.manual_seed(0)
    pinned, rolling = stored(dtype, 5), stored(dtype, 30)
    tables = rope.tables(rope.frequencies(10000.0, 20), torch.arange(40), interleaved=interleaved)
    for told in (tables, None):
        found = unroll_kernel(pinned, rolling, span, told, interleaved=interleaved)
        for one, other in zip(
            found, unroll_readable(pinned, rolling, span, told, interleaved=interleaved), strict=True
        ):
            torch.testing.assert_close(one, other, **CLOSE)
