"""A few rows times a 4-bit matrix, by torch's kernel for that: activations, scales and results in bfloat16.

    y_nr = bf16( sum_c bf16(x_nc) (bf16(s_rg) (q_rc - 8) + bf16(z_rg)) )       summed in fp32

Every weight is read once as half a byte, which is all that counts while few rows share the reading. The scale's fp16
has 11 bits, bfloat16 keeps 8: weights move by up to 1 part in 512, far less than the 4 bits already cost them. On
SmolLM2-135M the perplexity moves by 0.1%; a near tie between two tokens may turn over.
The kernel takes groups of four sizes; the scale of another, such as a whole row, is told once for each 32 columns.
Read next: ops/multiply/bags.py
"""

# N rows of x · R rows (outputs) · C columns (inputs) · G groups of columns

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.multiply.parts import slabs, take_apart

LEAST = 32
GROUPS = (LEAST, 64, 128, 256)
FORMATS = frozenset({"q4_0", "q4_1", "q4_k", "int4", "int4z"})
# By these names rather than by torch.ops, which takes a microsecond more, 200 times a token.
_repack = torch._convert_weight_to_int4pack_for_cpu  # pyright: ignore[reportPrivateImportUsage]
_multiply = torch._weight_int4pack_mm_for_cpu  # pyright: ignore[reportPrivateImportUsage]

TILE = 64  # rows that the kernel's layout keeps together; whole tiles can be packed one after the other


@dataclass(frozen=True, kw_only=True, eq=False)
class Nibbles:
    """Half-bytes in the kernel's own order, which depends on the CPU; scale and zero (G, R, 2) of each `group` columns,
    in bfloat16."""

    # By speed alone it would be about 100 rows of x. More than a few are a prompt, which is read once and sets the
    # course of the answer: that is worth fp32.
    most: ClassVar[int] = 16

    q: Tensor
    scale_and_zero: Tensor
    group: int = LEAST

    @staticmethod
    def fits(format: BlockFormat, rows: int) -> bool:
        """Whether the kernel takes this matrix. On Windows it is a plain loop, slower than unpacking."""
        whole = format.weights % LEAST == 0
        return format.name in FORMATS and whole and rows % 16 == 0 and rows > 0 and sys.platform != "win32"

    @classmethod
    def of(cls, blocks: Tensor, format: BlockFormat) -> Nibbles:
        """Repacks blocks, uint8 (R, bytes per row), a slab at a time: as many bytes as q4_1 has, 11% more than q4_0."""
        rows, columns = len(blocks), blocks.shape[1] // format.bytes * format.weights
        q = torch.empty(rows, columns // 2, dtype=torch.uint8)
        shared = take_apart(blocks[:1], format).group
        group = shared if shared in GROUPS else LEAST
        pairs = torch.empty(columns // group, rows, 2, dtype=torch.bfloat16)
        for slab in slabs(rows, columns, multiple=TILE):
            parts = take_apart(blocks[slab], format)
            q[slab] = _repack(parts.q_RC.int(), 1)
            zero_RG = (8 - parts.centre) * parts.scale_RG
            zero_RG = zero_RG if parts.offset_RG is None else zero_RG + parts.offset_RG
            for place, told_RG in enumerate((parts.scale_RG, zero_RG)):
                pairs[:, slab, place] = told_RG.T.bfloat16().repeat_interleave(shared // group, 0)
        return cls(q=q, scale_and_zero=pairs, group=group)

    def times(self, x_NC: Tensor) -> Tensor:
        """x (N, C) of any float dtype -> (N, R) of the same."""
        y_NR = _multiply(x_NC.bfloat16().contiguous(), self.q, self.group, self.scale_and_zero)
        if x_NC.dtype == torch.bfloat16:
            return y_NR
        return y_NR.float() if x_NC.dtype == torch.float32 else y_NR.to(x_NC.dtype)  # float() is the quicker call
