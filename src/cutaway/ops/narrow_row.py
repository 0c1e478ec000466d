"""A row of numbers in 8 bits, its scale behind it: K numbers are K bytes and the two of the scale.

LLM.int8()'s absmax (arXiv 2208.07339, section 2.1):   s = max |k| / 127,   k' = s round(k / s)
The scale is fp16 and rounded up, so that no number is cut off: each comes back within half a step s / 2.
K width of a row.   Read next: nn/narrow_cache.py, ops/cpu/cache.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.ops.blocks.absmax import half_above, steps

SCALE = 2
"""Bytes behind the K of a row."""


def encode(rows: Tensor) -> Tensor:
    """Rows (..., K) -> int8 (..., K + 2). What is not finite comes back as what is not."""
    scale = half_above(rows.float().abs().amax(-1, keepdim=True) / 127)
    q = steps(rows.float(), scale.float()).to(torch.int8)
    return torch.cat((q, scale.view(torch.int8)), dim=-1)


def decode(kept: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """int8 (..., K + 2) -> rows (..., K)."""
    # A copy in any case: two bytes are seen as one number only where they begin at an even place.
    scale = kept[..., -SCALE:].clone(memory_format=torch.contiguous_format).view(torch.float16)
    return kept[..., :-SCALE].to(dtype).mul_(scale.to(dtype))
