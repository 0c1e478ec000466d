"""Many rows times a quantised matrix: unpack a slab of rows that stays in cache, multiply, unpack the next over it.

    y[:, slab] = x w[slab]^T          backward: dx = sum over slabs of dy[:, slab] w[slab]

At 512 rows unpacking is about a twentieth of the work. No more than one slab of weights ever exists in fp32, in the
backward pass neither: it unpacks again what autograd would have kept.   Read next: ops/multiply/fast.py
"""

# N rows of x · R rows (outputs) · C columns (inputs)

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.multiply.parts import slabs

SLAB = 1 << 20
"""Weights unpacked at a time: 4 MB in fp32, which a shared cache holds. Fewer would make thin matrix products."""


class Scratch(threading.local):
    """The memory that slabs are unpacked into; kept, as asking the system for new pages costs more than unpacking."""

    def __init__(self) -> None:
        self.flat: dict[torch.dtype, Tensor] = {}

    def rows(self, count: int, columns: int, dtype: torch.dtype) -> Tensor:
        """(count, columns) on the CPU; what was in it before is lost."""
        flat = self.flat.get(dtype)
        if flat is None or flat.numel() < count * columns:
            with torch.inference_mode(False):  # or it could never be written to outside of inference
                flat = torch.empty(max(count * columns, SLAB), dtype=dtype, device="cpu")
            self.flat[dtype] = flat
        return flat[: count * columns].view(count, columns)


SCRATCH = Scratch()


def multiply_slabs(x_NC: Tensor, blocks: Tensor, format: BlockFormat, dtype: torch.dtype | None = None) -> Tensor:
    """x (N, C) times blocks, uint8 (R, bytes per row) -> (N, R) in x's dtype; the gradient reaches x.

    `dtype`: what to multiply in; None is x's own.
    """
    if x_NC.requires_grad and torch.is_grad_enabled():
        return _Slabs.apply(x_NC, blocks, format, dtype or x_NC.dtype)
    return _product(x_NC, blocks, format, dtype or x_NC.dtype)


def _product(x_NC: Tensor, blocks: Tensor, format: BlockFormat, dtype: torch.dtype) -> Tensor:
    x, y_NR = x_NC.to(dtype), x_NC.new_empty(len(x_NC), len(blocks), dtype=dtype)
    for slab, w in _unpacked(blocks, format, dtype):
        torch.mm(x, w.T, out=y_NR[:, slab])
    return y_NR.to(x_NC.dtype)


def _unpacked(blocks: Tensor, format: BlockFormat, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Runs of rows and their weights; each is gone when the next one comes."""
    rows, columns = len(blocks), blocks.shape[1] // format.bytes * format.weights
    for slab in slabs(rows, columns, SLAB):
        if blocks.device.type != "cpu":
            yield slab, dequantise(blocks[slab], format).to(dtype)
            continue
        count = slab.stop - slab.start
        w = dequantise(blocks[slab], format, out=SCRATCH.rows(count, columns, torch.float32))
        yield slab, w if dtype == torch.float32 else SCRATCH.rows(count, columns, dtype).copy_(w)


class _Slabs(torch.autograd.Function):
    """The product and its gradient for x; the blocks have none."""

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, blocks: Tensor, format: BlockFormat, dtype: torch.dtype) -> Tensor:
        ctx.blocks, ctx.format = blocks, format
        return _product(x_NC, blocks, format, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NR: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        columns = ctx.blocks.shape[1] // ctx.format.bytes * ctx.format.weights
        wide = torch.promote_types(dy_NR.dtype, torch.float32)
        dx_NC = dy_NR.new_zeros(len(dy_NR), columns, dtype=wide)
        for slab, w in _unpacked(ctx.blocks, ctx.format, wide):
            dx_NC.addmm_(dy_NR[:, slab].to(wide), w)
        return dx_NC.to(dy_NR.dtype), None, None, None
