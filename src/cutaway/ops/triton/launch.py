"""What it takes to start a kernel: sizes that a GPU likes, the right device, and refusals that say what to do instead.

Read next: ops/choice.py, ops/triton/norm_rotate.py
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
import triton
from torch import Tensor

from cutaway.base.errors import BadInput

WIDEST = 256
"""Numbers of a head that a tile holds at once, as in FlashAttention: wider ones outgrow a GPU's shared memory."""


def block(size: int) -> int:
    """`size` rounded up to a power of two, 16 at least: the sides that Triton's tiles and matrix products come in."""
    return max(16, triton.next_power_of_2(size))


def refuse_wide(*widths: int) -> None:
    """Raises BadInput where a head does not fit."""
    if max(widths) > WIDEST:
        raise BadInput(f"heads of {max(widths)} numbers, and {WIDEST} fit in a tile: take sdpa", field="attend")


def on_device(x: Tensor) -> AbstractContextManager[object]:
    """Kernels start on the current device: inside, that is the one of `x`. Raises BadInput where none can run there."""
    if not (x.is_cuda or triton.knobs.runtime.interpret):
        raise BadInput(f"a tensor on {x.device}: kernels run on a GPU, or with TRITON_INTERPRET=1", field="attend")
    return torch.cuda.device_of(x)
