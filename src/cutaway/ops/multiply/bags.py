"""A few rows times a quantised matrix in fp32: the matrix seen as an embedding table, the product as its bags.

An embedding bag sums rows of a table, each times a weight. Let the table have a row for each input c, holding q_rc for
all outputs r in one byte each; let x_c be the weights and a bag be the columns that share a scale. Then

    u_gr = sum_{c in g} x_c (q_rc - centre)            what fbgemm's kernel computes, straight from the bytes
    y_r  = sum_g s_rg u_gr  +  sum_g offset_rg sum_{c in g} x_c

Nothing is rounded but fp32 sums: activations, scales and results keep all their bits, in any of the formats.
Every row of x reads the whole table, so this is for one row, or a few.   Read next: ops/multiply/slabs.py
"""

# N rows of x · R rows (outputs) · C columns (inputs) · G groups of columns that share a scale

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.multiply.parts import slabs, take_apart

TAIL = 8  # bytes of scale and bias, two float32, that end a table's row


@dataclass(frozen=True, kw_only=True, eq=False)
class Bags:
    """table (C, R + 8) uint8; scale and offset (G, R) float32; `group` columns share a scale."""

    # With more rows of x unpacking once for a matrix product is faster: from 6 (large matrices) to 16 (small ones).
    most: ClassVar[int] = 8

    table: Tensor
    scale_GR: Tensor
    offset_GR: Tensor | None
    group: int

    @staticmethod
    def fits(format: BlockFormat, rows: int) -> bool:
        """Whether this machine has the kernel."""
        return rows > 0 and "fbgemm" in torch.backends.quantized.supported_engines

    @classmethod
    def of(cls, blocks: Tensor, format: BlockFormat) -> Bags:
        """Repacks blocks, uint8 (R, bytes per row), a slab at a time: a byte per weight and 4 or 8 per group."""
        rows, columns = len(blocks), blocks.shape[1] // format.bytes * format.weights
        table = torch.empty(columns, rows + TAIL, dtype=torch.uint8)
        scales, offsets, centre = [], [], 0
        for slab in slabs(rows, columns):
            parts = take_apart(blocks[slab], format)
            table[:, slab] = parts.q_RC.T
            scales.append(parts.scale_RG)
            offsets.append(parts.offset_RG)
            centre = parts.centre
        table[:, rows:] = torch.tensor([1.0, -centre], device="cpu").view(torch.uint8)
        scale_GR = torch.cat(scales).T.contiguous()
        offset_GR = None if offsets[0] is None else torch.cat(offsets).T.contiguous()
        return cls(table=table, scale_GR=scale_GR, offset_GR=offset_GR, group=columns // len(scale_GR))

    def times(self, x_NC: Tensor) -> Tensor:
        """x (N, C) of any float dtype -> (N, R) of the same."""
        count = len(x_NC)
        x = x_NC.float().contiguous()
        columns, ends = _bags(x.shape[1], self.group, count)
        u_GR = torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
            self.table, columns, ends, per_sample_weights=x.view(-1), include_last_offset=True
        )
        y = u_GR.view(count, *self.scale_GR.shape).mul_(self.scale_GR).sum(1)
        if self.offset_GR is not None:
            y = torch.addmm(y, x.view(count, -1, self.group).sum(2), self.offset_GR)
        return y.to(x_NC.dtype)


@lru_cache(maxsize=64)
def _bags(columns: int, group: int, count: int) -> tuple[Tensor, Tensor]:
    """Table row of each weight, and where each bag begins and the last one ends, for `count` rows of x."""
    rows = torch.arange(columns, dtype=torch.int32, device="cpu").repeat(count)
    return rows, torch.arange(0, count * columns + 1, group, dtype=torch.int32, device="cpu")
