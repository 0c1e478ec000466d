"""Whether blocks hold numbers at all: a block gives NaN or infinity exactly where one of its fp16 scales is one.

The small integers are always finite, and the largest fp16 number times the largest of them is far inside float32. So
a file's packed weights are checked by reading the scales alone, without unpacking anything.
Read next: ops/blocks/small.py, ops/blocks/superblocks.py (where the scales lie)
"""

# R rows · b blocks in a row

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.ops.blocks.format import BlockFormat

# First byte of a block's fp16 scales, and the byte behind the last.
SCALES = {
    "q4_0": (0, 2),
    "q4_1": (0, 4),
    "q5_0": (0, 2),
    "q5_1": (0, 4),
    "q8_0": (0, 2),
    "q4_k": (0, 4),
    "q5_k": (0, 4),
    "q6_k": (208, 210),
    "int8": (0, 2),
    "int4": (0, 2),
    "int8z": (0, 4),
    "int4z": (0, 4),
}


def finite(blocks: Tensor, format: BlockFormat) -> bool:
    """Whether all weights of uint8 blocks (R, b * bytes) are finite."""
    first, end = SCALES[format.name]
    scales = blocks.unflatten(-1, (-1, format.bytes))[..., first:end].contiguous().view(torch.float16)
    return bool(scales.isfinite().all())
