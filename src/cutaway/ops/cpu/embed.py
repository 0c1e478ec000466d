"""Rows of a token table, packed in blocks or plain, as floats: a kernel that unpacks only those that are looked up.

The torch sibling is `dequantise_rows` of ops/blocks/dequantise.py.
V vocabulary · N ids · D columns.   Read next: ops/cpu/embed.cpp, ops/blocks/small.py
"""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_int64, c_void_p

import torch
from torch import Tensor

from cutaway.ops.blocks.dequantise import dequantise_rows, weights_shape
from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.cpu.list import alone, pointer, whole

# In the order of embed.cpp's enum.
FORMATS = ("f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k")


class Embed(Structure):
    """The arguments of `embed` (embed.cpp)."""

    _fields_ = (
        ("table", c_void_p),
        ("ids", c_void_p),
        ("y", c_void_p),
        ("row_bytes", c_int64),
        ("count", c_int32),
        ("width", c_int32),
        ("format", c_int32),
        ("scale", c_float),
    )


def embed_readable(blocks: Tensor, format: BlockFormat, ids_N: Tensor, scale: float = 1.0) -> Tensor:
    """The rows (N, D) that `ids` name, times `scale`; blocks uint8 (V, bytes of a row)."""
    return dequantise_rows(blocks, format, ids_N.long()) * scale


def embed_kernel(blocks: Tensor, format: BlockFormat, ids_N: Tensor, scale: float = 1.0) -> Tensor:
    """The same by the kernel. Ids must be within the table. Raises NoKernels where there are none."""
    width, blocks = weights_shape(blocks, format)[-1], blocks.contiguous()
    ids_N = whole(ids_N)
    y_ND = torch.empty(len(ids_N), width)
    told = Embed(*map(pointer, (blocks, ids_N, y_ND)), blocks.stride(0), len(ids_N), width, number(format), scale)
    alone("embed", told)
    return y_ND


def number(format: BlockFormat) -> int:
    """The kernel's number of a format."""
    return FORMATS.index(format.name)
