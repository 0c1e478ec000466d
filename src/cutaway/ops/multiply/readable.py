"""Rows times a quantised matrix, as the equation says it: unpack the weights, multiply.

    y = x w^T,   w = dequantise(blocks)
Read next: ops/multiply/fast.py
"""

# N rows of x · R rows (outputs) · C columns (inputs)

from __future__ import annotations

from torch import Tensor

from cutaway.ops.blocks.dequantise import dequantise_readable
from cutaway.ops.packed import Joined, Packed


def multiply_readable(x_NC: Tensor, packed: Packed | Joined) -> Tensor:
    """x (N, C) times a packed (R, C) matrix -> (N, R) in x's dtype, on any device; autograd gives x its gradient."""
    w_RC = dequantise_readable(packed.blocks, packed.format)
    return x_NC @ w_RC.to(x_NC.dtype).T
