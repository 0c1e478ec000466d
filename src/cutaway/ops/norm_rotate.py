"""A head's query or key brought to unit scale and turned by its position, as one step: RMS norm, then RoPE.

Qwen3 (arXiv 2505.09388, section 2, QK-Norm), by ops/norm.py and ops/rope.py.   y = rotate(norm(x) weight)
Both read and write each number once and compute little: what they cost is memory traffic, and doing them in one go
halves it. ops/triton/norm_rotate.py is that one go on a GPU; this is what it is held against.
N tokens, flat · H head · K head dim · W rotary width.   Read next: ops/triton/norm_rotate.py
"""

from __future__ import annotations

from torch import Tensor

from cutaway.ops.norm import rms_norm_readable
from cutaway.ops.rope import rotate_readable


def norm_rotate_readable(
    x_NHK: Tensor,
    weight_K: Tensor,
    cos_N1W: Tensor,
    sin_N1W: Tensor,
    *,
    eps: float,
    offset: float = 0.0,
    interleaved: bool = False,
) -> Tensor:
    """(N, H, K) -> (N, H, K) in x's dtype. `weight`, `eps` and `offset` as of `rms_norm_readable`; tables from
    `ops.rope.tables`, of the same layout, as wide as what turns (W <= K)."""
    unit_NHK = rms_norm_readable(x_NHK, weight_K, eps=eps, offset=offset)
    return rotate_readable(unit_NHK, cos_N1W, sin_N1W, interleaved).to(x_NHK.dtype)
