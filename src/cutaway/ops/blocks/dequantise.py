"""Turn blocks of quantised weights back into fp32 numbers, bit for bit as ggml does.

GGUF files hold most matrices as blocks (ops/blocks/format.py); this is where they become numbers again.
Two forms with one result: `dequantise` (fast) and `dequantise_readable`.   Read next: ops/blocks/quantise.py
"""

# Blocks are uint8 (..., n x bytes), weights float32 (..., n x weights); rows come first.

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks import absmax, lanes, small, superblocks
from cutaway.ops.blocks.format import BlockFormat

CHUNK = 1 << 20
"""Weights unpacked at a time: few enough for the intermediate bytes to stay in a cache, enough for two threads."""

READABLE = {
    "q4_0": small.q4_0,
    "q4_1": small.q4_1,
    "q5_0": small.q5_0,
    "q5_1": small.q5_1,
    "q8_0": small.q8_0,
    "q4_k": superblocks.q4_k,
    "q5_k": superblocks.q5_k,
    "q6_k": superblocks.q6_k,
    "int8": absmax.int8,
    "int4": absmax.int4,
    "int8z": absmax.int8z,
    "int4z": absmax.int4z,
}
FAST = {
    "q4_0": lanes.q4_0,
    "q4_1": lanes.q4_1,
    "q5_0": lanes.q5_0,
    "q5_1": lanes.q5_1,
    "q8_0": lanes.q8_0,
    "q4_k": lanes.q4_k,
    "q5_k": lanes.q5_k,
    "q6_k": lanes.q6_k,
    "int8": absmax.int8_into,
    "int4": absmax.int4_into,
    "int8z": absmax.int8z_into,
    "int4z": absmax.int4z_into,
}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def dequantise(blocks: Tensor, format: BlockFormat, *, out: Tensor | None = None) -> Tensor:
    """The weights (..., n x weights) in float32 of `blocks`, uint8 (..., n x bytes); of FORMATS, of PLAIN, and
    those of ops/blocks/absmax.py.

    `out`, contiguous float32 of the result's shape, is memory to write into, so that none has to be found.
    BadInput where the bytes are not a whole number of blocks. Source: ggml's `dequantize_row_*`.
    """
    shape = weights_shape(blocks, format)
    if out is None:
        out = torch.empty(shape, dtype=torch.float32, device=blocks.device)
    elif out.shape != shape or out.dtype != torch.float32 or not out.is_contiguous():
        raise BadInput(f"out must be contiguous float32 of shape {tuple(shape)}, not {out.dtype} {tuple(out.shape)}")
    if format.name in DTYPES:
        return out.copy_(_viewable(blocks, format).view(DTYPES[format.name]))
    flat, into = _viewable(blocks, format).view(-1, format.bytes), out.view(-1, format.weights)
    step = CHUNK // format.weights
    for start in range(0, len(flat), step):
        FAST[format.name](flat[start : start + step], into[start : start + step])
    return out


def dequantise_readable(blocks: Tensor, format: BlockFormat) -> Tensor:
    """What `dequantise` returns, in the form that is for reading (ops/blocks/small.py, ops/blocks/superblocks.py)."""
    shape = weights_shape(blocks, format)
    if format.name in DTYPES:
        return _viewable(blocks, format).view(DTYPES[format.name]).float()
    return READABLE[format.name](blocks.reshape(-1, format.bytes)).view(shape)


def dequantise_rows(blocks: Tensor, format: BlockFormat, ids: Tensor) -> Tensor:
    """Only the looked-up rows of a matrix: blocks (V, n x bytes), ids (...) -> float32 (..., n x weights).

    An embedding table stays packed; a batch of tokens unpacks just its own rows.
    """
    return dequantise(blocks.index_select(0, ids.reshape(-1)), format).view(*ids.shape, -1)


def weights_shape(blocks: Tensor, format: BlockFormat) -> torch.Size:
    """The shape of the weights that `blocks` hold; BadInput where dtype or length are not blocks of that format."""
    if blocks.dtype != torch.uint8 or blocks.dim() == 0:
        raise BadInput(f"{format.name} blocks must be uint8 bytes, not {blocks.dtype} {tuple(blocks.shape)}")
    count, left = divmod(blocks.shape[-1], format.bytes)
    if left:
        raise BadInput(f"{blocks.shape[-1]} bytes are not a whole number of {format.name} blocks of {format.bytes}")
    return torch.Size((*blocks.shape[:-1], count * format.weights))


def _viewable(blocks: Tensor, format: BlockFormat) -> Tensor:
    """Contiguous, and starting where bytes may be seen as wider lanes; copied only where it has to be."""
    width = format.bytes & -format.bytes  # the largest power of two that divides a block
    if blocks.is_contiguous() and blocks.storage_offset() % min(width, 4) == 0:
        return blocks
    return blocks.clone(memory_format=torch.contiguous_format)
