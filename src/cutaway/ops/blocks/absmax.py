"""Weights rounded to the nearest of a few levels under one scale: absmax and zero-point, per tensor, row or group.

The equations are those of ops/blocks/scheme.py. Blocks lie as GGUF's do, one for each group (or row):

    int8   [s s | a byte for each q, signed]             w' = s q           |w - w'| <= s / 2
    int4   [s s | two q in a byte, 8 added to each]      w' = s (q - 8)     q - 8 in -7..7
    int8z  [s s | z z | a byte for each q]               w' = s (q - z)     z and q in 0..255
    int4z  [s s | z z | two q in a byte]                 w' = s (q - z)     z and q in 0..15
s and z are fp16. In int4 and int4z byte j holds weight j of the group low and weight j + group / 2 high, as in q4_0.
Departure: s is rounded up to fp16 before it divides. So no weight is ever cut off at the last level, and each stays
within half a step of what it was, however small it is. A group of zeros has s = 0.
Read next: ops/blocks/small.py, nn/quantised.py
"""

# R rows · C columns · G groups of a row · W weights of a group · n blocks

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.blocks.scheme import Absmax
from cutaway.ops.blocks.small import halves, nibbles

CHUNK = 1 << 20
"""Weights rounded at a time, so that the intermediate values stay few."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Levels:
    """Rounded weights as whole numbers: q (R, G, W) int32, and of each group the scale (R, G, 1) float32, which fp16
    holds, and the level that stands for zero, (R, G, 1) int32."""

    q_RGW: Tensor
    scale_RG1: Tensor
    zero_RG1: Tensor

    def numbers(self) -> Tensor:
        """What they stand for, (R, C) float32: s (q - z)."""
        return (self.scale_RG1 * (self.q_RGW - self.zero_RG1)).flatten(1)


def scales(x_RGW: Tensor, scheme: Absmax, *, whole: bool = False) -> tuple[Tensor, Tensor]:
    """Of each group the scale (R, G, 1), rounded up to what fp16 holds, and the zero level (R, G, 1) int32. `whole`:
    one scale for all groups. Raises BadInput where fp16 has no such scale."""
    if scheme.symmetric:
        top_RG1 = x_RGW.abs().amax(-1, keepdim=True)
        scale_RG1 = upwards((top_RG1.max().expand_as(top_RG1) if whole else top_RG1) / scheme.levels)
        return scale_RG1, torch.zeros_like(scale_RG1, dtype=torch.int32)
    low_RG1, high_RG1 = x_RGW.amin(-1, keepdim=True).clamp(max=0), x_RGW.amax(-1, keepdim=True).clamp(min=0)
    if whole:
        low_RG1, high_RG1 = low_RG1.min().expand_as(low_RG1), high_RG1.max().expand_as(high_RG1)
    scale_RG1 = upwards((high_RG1 - low_RG1) / scheme.levels)
    return scale_RG1, steps(-low_RG1, scale_RG1).int()


def upwards(scale: Tensor) -> Tensor:
    """`half_above`, as float32. Raises BadInput where that is not finite."""
    half = half_above(scale)
    if not half.isfinite().all():
        raise BadInput("weights are not finite, or too large for an fp16 scale")
    return half.float()


def half_above(scale: Tensor) -> Tensor:
    """The smallest numbers of fp16 that are not below these, which are 0 or more."""
    half = scale.half()
    # The bits of positive fp16 numbers count up with them.
    return torch.where(half.float() < scale, (half.view(torch.int16) + 1).view(torch.float16), half)


def steps(x: Tensor, scale: Tensor) -> Tensor:
    """How many steps each number is from zero, the nearest whole number; 0 where the scale is 0."""
    return torch.where(scale > 0, x / scale, 0.0).round()


def round_absmax(x_RC: Tensor, scheme: Absmax) -> Levels:
    """The nearest levels of weights (R, C). Raises BadInput for weights that are not finite."""
    group = scheme.format(x_RC.shape[1]).weights
    x_RGW = x_RC.float().unflatten(1, (-1, group))
    return nearest(x_RGW, *scales(x_RGW, scheme, whole=scheme.share == "tensor"), scheme)


def nearest(x_RGW: Tensor, scale_RG1: Tensor, zero_RG1: Tensor, scheme: Absmax) -> Levels:
    """The nearest levels under scales that are given already."""
    least = -scheme.levels if scheme.symmetric else 0
    q_RGW = (steps(x_RGW, scale_RG1).int() + zero_RG1).clamp(least, scheme.levels)
    return Levels(q_RGW=q_RGW, scale_RG1=scale_RG1, zero_RG1=zero_RG1)


def quantise_absmax(x_RC: Tensor, scheme: Absmax) -> tuple[Tensor, BlockFormat]:
    """Weights (R, C) of any float dtype -> blocks, uint8 (R, bytes of a row), and their format.

    Raises BadInput for weights that are not finite, and for an odd row in 4 bits.
    """
    format = scheme.format(x_RC.shape[1])
    blocks = torch.empty(len(x_RC), format.row_bytes(x_RC.shape[1]), dtype=torch.uint8, device=x_RC.device)
    step = max(1, CHUNK // max(1, x_RC.shape[1]))
    told = None
    if scheme.share == "tensor" and x_RC.numel():
        # Least and largest alone decide the scale of all.
        extremes_112 = torch.stack(x_RC.detach().float().aminmax()).view(1, 1, 2)
        told = scales(extremes_112, scheme)
    for start in range(0, len(x_RC), step):
        part_RGW = x_RC[start : start + step].detach().float().unflatten(1, (-1, format.weights))
        shape = (*part_RGW.shape[:2], 1)
        scale, zero = scales(part_RGW, scheme) if told is None else (told[0].expand(shape), told[1].expand(shape))
        blocks[start : start + step] = pack(nearest(part_RGW, scale, zero, scheme), format)
    return blocks, format


def pack(levels: Levels, format: BlockFormat) -> Tensor:
    """Levels -> blocks, uint8 (R, bytes of a row)."""
    head = [levels.scale_RG1.half().contiguous().view(torch.uint8)]
    if format.name.endswith("z"):
        head.append(levels.zero_RG1.half().contiguous().view(torch.uint8))
    q_RGW = levels.q_RGW
    if format.name.startswith("int8"):
        body = (q_RGW & 255).to(torch.uint8)  # two's complement where they are signed
    else:
        low, high = (q_RGW + (8 if format.name == "int4" else 0)).to(torch.uint8).chunk(2, dim=-1)
        body = low | high << 4
    return torch.cat((*head, body), dim=-1).flatten(1)


# Blocks (n, bytes) uint8 -> (n, W) float32, for reading. Every product fits in fp32: each form gives the same bits.


def int8(blocks: Tensor) -> Tensor:
    return halves(blocks[:, :2]) * blocks[:, 2:].view(torch.int8).float()


def int4(blocks: Tensor) -> Tensor:
    return halves(blocks[:, :2]) * (nibbles(blocks[:, 2:]).float() - 8)


def int8z(blocks: Tensor) -> Tensor:
    return halves(blocks[:, :2]) * (blocks[:, 4:].float() - halves(blocks[:, 2:4]))


def int4z(blocks: Tensor) -> Tensor:
    return halves(blocks[:, :2]) * (nibbles(blocks[:, 4:]).float() - halves(blocks[:, 2:4]))


# The same written into `out` (n, W): bytes stay bytes until they are scaled, and nothing is made beside them twice.


def int8_into(blocks: Tensor, out: Tensor) -> None:
    out.copy_(blocks[:, 2:].view(torch.int8)).mul_(halves(blocks[:, :2]))


def int4_into(blocks: Tensor, out: Tensor) -> None:
    _spread(blocks[:, 2:], out)
    out.sub_(8).mul_(halves(blocks[:, :2]))


def int8z_into(blocks: Tensor, out: Tensor) -> None:
    out.copy_(blocks[:, 4:]).sub_(halves(blocks[:, 2:4])).mul_(halves(blocks[:, :2]))


def int4z_into(blocks: Tensor, out: Tensor) -> None:
    _spread(blocks[:, 4:], out)
    out.sub_(halves(blocks[:, 2:4])).mul_(halves(blocks[:, :2]))


def _spread(bytes_nb: Tensor, out: Tensor) -> None:
    half = bytes_nb.shape[1]
    out[:, :half].copy_(bytes_nb & 15)
    out[:, half:].copy_(bytes_nb >> 4)
