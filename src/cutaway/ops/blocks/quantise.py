"""Round numbers into blocks of few bits, bit for bit as ggml's reference does.

q8_0, q4_0, q5_0: the weight of largest size in a block fixes the scale.   d = max |w| / 127,  d = extreme / -8 (or -16)
q4_1, q5_1: the range of the block fixes scale and minimum.                d = (max w - min w) / 15 (or 31),  m = min w
then q = round(w / d), or round((w - m) / d), with 1 / d taken from d before d itself is rounded to fp16.
The signed forms divide by -8 so that the extreme weight, of either sign, lands on the one level without a mirror image.
Departure: weights that are not finite, or too large for an fp16 scale, are refused; ggml would write infinities.
Read next: ops/blocks/dequantise.py
"""

# n blocks · 32 weights in a block

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.format import BlockFormat

CHUNK = 1 << 20
"""Weights rounded at a time, so that the intermediate values stay few."""

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def quantise(x: Tensor, format: BlockFormat) -> Tensor:
    """Weights (..., n x weights) of any float dtype -> uint8 (..., n x bytes); see ROUND and DTYPES.

    BadInput where rows do not end on a block, where a scale would not be finite, or where we only read the format.
    Source: ggml's `quantize_row_*_ref`.
    """
    size = format.row_bytes(x.shape[-1])
    if format.name in DTYPES:
        return x.to(DTYPES[format.name]).contiguous().view(torch.uint8)
    if format.name not in ROUND:
        raise BadInput(f"Cutaway reads {format.name} but does not write it; it writes {', '.join([*ROUND, *DTYPES])}")
    blocks = torch.empty(*x.shape[:-1], size, dtype=torch.uint8, device=x.device)
    flat, into = x.reshape(-1, format.weights), blocks.view(-1, format.bytes)
    step = CHUNK // format.weights
    for start in range(0, len(flat), step):
        parts = ROUND[format.name](flat[start : start + step].float())
        torch.cat(parts, dim=1, out=into[start : start + step])
    return blocks


def _scale_bytes(scale_n1: Tensor) -> Tensor:
    """(n, 1) float32 -> its fp16 as (n, 2) uint8; refused where it is not finite."""
    half = scale_n1.half()
    if not half.isfinite().all():
        raise BadInput("weights are not finite, or too large for the fp16 scale of a block")
    return half.view(torch.uint8)


def _over(top: Tensor, steps: int) -> Tensor:
    """top / steps, rounded once on every device (CUDA multiplies by 1 / steps where steps is a Python number)."""
    return top / torch.tensor(float(steps), device=top.device)


def _inverse(scale_n1: Tensor) -> Tensor:
    """1 / d, or 0 where d is 0 or so small that 1 / d overflows (then fp16 holds d as 0 anyway)."""
    inverse = 1 / scale_n1
    return torch.where(inverse.isfinite(), inverse, 0)


def _pack_nibbles(q: Tensor) -> Tensor:
    """(n, 32) uint8 -> (n, 16): weight j in the low half of byte j, weight j + 16 in the high one."""
    low, high = q.chunk(2, dim=1)
    return (low & 15) | (high << 4)


def _pack_fifth_bits(q: Tensor) -> Tensor:
    """(n, 32) uint8 -> (n, 4): bit j is bit 4 of weight j."""
    places = torch.arange(8, dtype=torch.uint8, device=q.device)
    return ((q >> 4 & 1).unflatten(1, (4, 8)) << places).sum(dim=2, dtype=torch.uint8)


def _signed(x: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Scale bytes and q in 0 .. 2 half - 1, where q = half stands for zero."""
    extreme = x.gather(1, x.abs().argmax(dim=1, keepdim=True))  # the first, where two are equally large
    d = _over(extreme, -half)
    q = (x * _inverse(d) + (half + 0.5)).to(torch.uint8).clamp(max=2 * half - 1)
    return _scale_bytes(d), q


def _ranged(x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Scale and minimum bytes and q in 0 .. levels - 1."""
    low, high = x.aminmax(dim=1, keepdim=True)
    d = _over(high - low, levels - 1)
    q = ((x - low) * _inverse(d) + 0.5).to(torch.uint8).clamp(max=levels - 1)
    return torch.cat((_scale_bytes(d), _scale_bytes(low)), dim=1), q


def _q8_0(x: Tensor) -> tuple[Tensor, ...]:
    d = _over(x.abs().amax(dim=1, keepdim=True), 127)
    y = x * _inverse(d)
    size = y.abs()
    whole = size.floor()
    away = whole + (2 * (size - whole)).floor()  # halves round away from zero; torch.round would send them to even
    return _scale_bytes(d), (y.sign() * away).to(torch.int8).view(torch.uint8)


def _q4_0(x: Tensor) -> tuple[Tensor, ...]:
    scale, q = _signed(x, half=8)
    return scale, _pack_nibbles(q)


def _q4_1(x: Tensor) -> tuple[Tensor, ...]:
    scales, q = _ranged(x, levels=16)
    return scales, _pack_nibbles(q)


def _q5_0(x: Tensor) -> tuple[Tensor, ...]:
    scale, q = _signed(x, half=16)
    return scale, _pack_fifth_bits(q), _pack_nibbles(q)


def _q5_1(x: Tensor) -> tuple[Tensor, ...]:
    scales, q = _ranged(x, levels=32)
    return scales, _pack_fifth_bits(q), _pack_nibbles(q)


ROUND = {"q8_0": _q8_0, "q4_0": _q4_0, "q4_1": _q4_1, "q5_0": _q5_0, "q5_1": _q5_1}
