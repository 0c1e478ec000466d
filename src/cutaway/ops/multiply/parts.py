"""A quantised matrix taken apart: small integers, and for each group of columns a scale and perhaps an offset.

    w = scale (q - centre) + offset       q in 0 .. 2^bits - 1

All formats are this one equation; the fast products keep q and apply scale and offset in their own ways.
Layouts: ops/blocks/small.py, ops/blocks/superblocks.py and ops/blocks/absmax.py.
Read next: ops/multiply/nibbles.py, ops/multiply/bags.py
"""

# R rows (outputs) · C columns (inputs) · G groups of columns that share a scale · n blocks

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.blocks.small import fifth_bits, halves, nibbles
from cutaway.ops.blocks.superblocks import scales_and_minima

SLAB = 1 << 20
"""Weights taken apart at a time, so that the intermediate values stay few."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """q (R, C) uint8; scale (R, G) and offset (R, G) float32, no offset where the format has none."""

    q_RC: Tensor
    scale_RG: Tensor
    offset_RG: Tensor | None
    centre: int

    @property
    def group(self) -> int:
        """Columns that share a scale."""
        return self.q_RC.shape[1] // self.scale_RG.shape[1]


Apart = tuple[Tensor, Tensor, Tensor | None]


def _q4_0(blocks: Tensor) -> Apart:
    return nibbles(blocks[:, 2:]), halves(blocks[:, :2]), None


def _q4_1(blocks: Tensor) -> Apart:
    return nibbles(blocks[:, 4:]), halves(blocks[:, :2]), halves(blocks[:, 2:4])


def _q5_0(blocks: Tensor) -> Apart:
    return nibbles(blocks[:, 6:]) | fifth_bits(blocks[:, 2:6]), halves(blocks[:, :2]), None


def _q5_1(blocks: Tensor) -> Apart:
    return nibbles(blocks[:, 8:]) | fifth_bits(blocks[:, 4:8]), halves(blocks[:, :2]), halves(blocks[:, 2:4])


def _q8_0(blocks: Tensor) -> Apart:
    return blocks[:, 2:] ^ 128, halves(blocks[:, :2]), None  # -128..127 in two's complement -> 0..255


def _int8(blocks: Tensor) -> Apart:
    return blocks[:, 2:] ^ 128, halves(blocks[:, :2]), None


def _int4(blocks: Tensor) -> Apart:
    return nibbles(blocks[:, 2:]), halves(blocks[:, :2]), None


def _zeroed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Scale s and offset -s z."""
    scale = halves(blocks[:, :2])
    return scale, -scale * halves(blocks[:, 2:4])


def _int8z(blocks: Tensor) -> Apart:
    return blocks[:, 4:], *_zeroed(blocks)


def _int4z(blocks: Tensor) -> Apart:
    return nibbles(blocks[:, 4:]), *_zeroed(blocks)


def _levels(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Scale d s and offset -dmin m of the eight sub-blocks of q4_k and q5_k."""
    scales, minima = scales_and_minima(blocks[:, 4:16])
    return halves(blocks[:, 0:2]) * scales, -halves(blocks[:, 2:4]) * minima


def _q4_k(blocks: Tensor) -> Apart:
    runs = blocks[:, 16:].unflatten(1, (4, 1, 32))
    return torch.cat((runs & 15, runs >> 4), dim=2), *_levels(blocks)


def _q5_k(blocks: Tensor) -> Apart:
    runs = blocks[:, 48:].unflatten(1, (4, 1, 32))
    places = torch.arange(8, dtype=torch.uint8, device=blocks.device)[:, None]
    fifth = (blocks[:, None, 16:48] >> places & 1) << 4
    return torch.cat((runs & 15, runs >> 4), dim=2).flatten(1, 2) | fifth, *_levels(blocks)


def _q6_k(blocks: Tensor) -> Apart:
    low, high = blocks[:, :128].unflatten(1, (2, 64)), blocks[:, 128:192].unflatten(1, (2, 1, 32))
    places = torch.arange(0, 8, 2, dtype=torch.uint8, device=blocks.device)[:, None]
    q = torch.cat((low & 15, low >> 4), dim=2) | ((high >> places & 3) << 4).flatten(2)
    return q, halves(blocks[:, 208:210]) * blocks[:, 192:208].view(torch.int8), None


APART: dict[str, tuple[int, Callable[[Tensor], Apart]]] = {
    "q4_0": (8, _q4_0),
    "q4_1": (0, _q4_1),
    "q5_0": (16, _q5_0),
    "q5_1": (0, _q5_1),
    "q8_0": (128, _q8_0),
    "q4_k": (0, _q4_k),
    "q5_k": (0, _q5_k),
    "q6_k": (32, _q6_k),
    "int8": (128, _int8),
    "int4": (8, _int4),
    "int8z": (0, _int8z),
    "int4z": (0, _int4z),
}


def take_apart(blocks: Tensor, format: BlockFormat) -> Parts:
    """The parts of blocks, uint8 (R, bytes per row)."""
    rows = len(blocks)
    centre, function = APART[format.name]
    q, scale, offset = function(blocks.reshape(-1, format.bytes))
    offset_RG = None if offset is None else offset.reshape(rows, -1)
    return Parts(q_RC=q.reshape(rows, -1), scale_RG=scale.reshape(rows, -1), offset_RG=offset_RG, centre=centre)


def slabs(rows: int, columns: int, weights: int = SLAB, multiple: int = 1) -> Iterator[slice]:
    """Runs of rows that hold at most about `weights` weights; each but the last is a multiple of `multiple` rows."""
    step = max(weights // max(columns, 1) // multiple, 1) * multiple
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
