"""Rows times a quantised matrix, by whichever way of torch's own suits the number of rows.

Few rows are bound by reading the weights: they are multiplied where they lie, in half-bytes (ops/multiply/nibbles.py)
or in bytes (ops/multiply/bags.py). Many rows are bound by arithmetic: weights are unpacked a slab at a time and go
through an ordinary matrix product (ops/multiply/slabs.py). So does whatever needs a gradient or lies on another device.
Rows in bfloat16 find a small model's weights unpacked already (ops/multiply/unpacked.py). Where there is no room, or
the CPU is slow at bfloat16, as many as step together in a batch go through half-bytes: they are rounded already.

    multiply_fast      4-bit weights round activations to bfloat16 up to 16 rows; all else is fp32
    multiply_exact     fp32 always, as the readable form; 4-bit weights take a byte each in their copy
    multiply_bfloat16  as fast, and many rows go through bfloat16 products: twice the rate on a CPU that has them
All have the signature of ops/multiply/readable.py.   Read next: bench/matmul.py
"""

# N rows of x · R rows (outputs) · C columns (inputs)

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.ops.multiply.narrow import bfloat16_pays
from cutaway.ops.multiply.nibbles import Nibbles
from cutaway.ops.multiply.slabs import multiply_slabs
from cutaway.ops.packed import Joined, Packed

BATCH = 64
"""Rows in bfloat16 up to which half-bytes are faster than unpacking every time: 103 ms for 32 rows of SmolLM2-135M's
blocks on one thread, 199 for 64; unpacked already 76 and 114, unpacked each time above 200."""


def multiply_fast(x_NC: Tensor, packed: Packed | Joined) -> Tensor:
    """x (N, C) times a packed (R, C) matrix -> (N, R) in x's dtype; the gradient reaches x."""
    y = _few(x_NC, packed, exact=False)
    if y is None and x_NC.dtype == torch.bfloat16:
        y = _batch(x_NC, packed)
    return multiply_slabs(x_NC, packed.blocks, packed.format) if y is None else y


def multiply_exact(x_NC: Tensor, packed: Packed | Joined) -> Tensor:
    """The same, nothing rounded to fewer bits than x has."""
    y = _few(x_NC, packed, exact=True)
    return multiply_slabs(x_NC, packed.blocks, packed.format) if y is None else y


def multiply_bfloat16(x_NC: Tensor, packed: Packed | Joined) -> Tensor:
    """The same, products of many rows rounded to bfloat16."""
    y = _few(x_NC, packed, exact=False)
    if y is None:
        y = _many(x_NC, packed)
    return multiply_slabs(x_NC, packed.blocks, packed.format, torch.bfloat16) if y is None else y


def _few(x_NC: Tensor, packed: Packed | Joined, exact: bool) -> Tensor | None:
    """The product if x has few rows and nothing stands against the kernels for that."""
    count = x_NC.shape[0]  # len(x_NC) would be ten times as slow, 120 times a token
    if not 0 < count <= Nibbles.most or not x_NC.is_cpu or (x_NC.requires_grad and torch.is_grad_enabled()):
        return None
    few = packed.few(exact)
    return None if few is None or count > few.most else few.times(x_NC)


def _batch(x_NC: Tensor, packed: Packed | Joined) -> Tensor | None:
    """The product of rows in bfloat16: by unpacked weights, or by half-bytes where those do not pay or have no room."""
    y = _many(x_NC, packed) if x_NC.shape[0] > BATCH or bfloat16_pays() else None
    if y is not None or not 0 < x_NC.shape[0] <= BATCH or not x_NC.is_cpu:
        return y
    few = None if x_NC.requires_grad and torch.is_grad_enabled() else packed.few()
    return few.times(x_NC) if isinstance(few, Nibbles) else _many(x_NC, packed)


def _many(x_NC: Tensor, packed: Packed | Joined) -> Tensor | None:
    """The product in bfloat16 if there is something to multiply, and room for unpacked weights."""
    if not len(x_NC) or not x_NC.is_cpu or (x_NC.requires_grad and torch.is_grad_enabled()):
        return None
    w_RC = packed.many() if isinstance(packed, Packed) else None
    return None if w_RC is None else F.linear(x_NC.bfloat16(), w_RC).to(x_NC.dtype)
