"""What the parts of a packed model compute in, between the sums of the residual: bfloat16 where that pays, else fp32.

Few rows of 4-bit weights are multiplied in bfloat16 whatever comes in (ops/multiply/nibbles.py): a norm that hands over
bfloat16 at once, and parts that hand it on, save a dozen conversions a block and round no more than the product does.
Many rows are bound by arithmetic, and some CPUs multiply bfloat16 twice as fast as fp32, others half as fast: that is
measured, once. In between, an ordinary prompt is worth fp32: its first token is then exact.
The residual, rotations and the cache keep the model's own precision, and so do scores, but for the prompt that is long
enough for products in bfloat16: its attention multiplies so as well.   Read next: ops/multiply/fast.py
"""

from __future__ import annotations

import time
from functools import lru_cache

import torch
import torch.nn.functional as F

from cutaway.ops.multiply.nibbles import FORMATS, Nibbles

MANY = 128
"""Rows from which a prompt is long enough that its speed is felt."""

GAIN = 1.25
"""How much faster bfloat16 has to be before its 8 bits are worth it."""


def narrow(rows: int, formats: frozenset[str]) -> torch.dtype | None:
    """bfloat16 or None, for a pass of so many rows on the CPU; `formats`: those of all the blocks' matrices."""
    if not formats:
        return None
    if rows <= Nibbles.most:
        return torch.bfloat16 if formats <= FORMATS else None
    return torch.bfloat16 if rows >= MANY and bfloat16_pays() else None


def scored(rows: int, narrow: torch.dtype | None, wide: torch.dtype) -> torch.dtype:
    """What attention multiplies in, where a pass of so many rows computes in `narrow` and the cache is in `wide`."""
    return wide if narrow is None or rows < MANY else narrow


def never(rows: int, formats: frozenset[str]) -> torch.dtype | None:
    """The same decision, always against it."""
    return None


@lru_cache(maxsize=1)
def bfloat16_pays() -> bool:
    """Whether products of many rows are faster in bfloat16 on this CPU; takes some 20 ms, the first time."""
    x_NC, w_RC = torch.ones(256, 576), torch.ones(1536, 576)
    sides = {torch.float32: (x_NC, w_RC), torch.bfloat16: (x_NC.bfloat16(), w_RC.bfloat16())}
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(4):  # the first round warms up; interleaved, so that both meet the same neighbours
        for dtype, (x, w) in sides.items():
            start = time.perf_counter()
            F.linear(x, w)
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.bfloat16] * GAIN < best[torch.float32]
