"""The same blocks, unpacked many bytes at a time: what makes it cheap to turn weights into fp32 on every prefill.

Two habits make the difference, 2 to 10 times here. Eight bytes are masked at once, seen as one int64. And integers stay
one byte wide until the last step: only conversion and scaling touch four bytes per weight, in the caller's memory.
Each function writes into `out` what its namesake in ops/blocks/small.py or ops/blocks/superblocks.py returns, bit for
bit: the products are exact in fp32 (see there), so the order of multiplying and adding cannot show.
Read next: ops/blocks/dequantise.py
"""

# n blocks, each row one block; lanes are int16, int32 or int64 views of the bytes. Assumes a little-endian machine.

from __future__ import annotations

import torch
from torch import Tensor

LOW_NIBBLES = 0x0F0F_0F0F_0F0F_0F0F
LOW_BITS = 0x0101_0101_0101_0101
SEVENS = 0x7F7F_7F7F_7F7F_7F7F
FIFTH = 0x1010_1010_1010_1010
FIFTH_AND_SIXTH = 0x3030_3030_3030_3030
ONE_BIT_EACH = 0x8040_2010_0804_0201 - (1 << 64)  # byte j keeps bit j; as a signed number, which int64 lanes want


def _dense(lanes: Tensor) -> Tensor:
    """A copy without gaps, to be seen as other lanes. (`contiguous` would leave the gap of a single block.)"""
    return lanes.clone(memory_format=torch.contiguous_format)


def _halves(column: Tensor) -> Tensor:
    """A strided column of lanes -> the fp16 numbers in it as float32 (n, 1 or 2)."""
    return _dense(column).view(torch.float16).float().view(len(column), -1)


def _nibbles(lanes: Tensor) -> Tensor:
    """(n, ..., k) lanes -> (n, ..., 2, k) lanes of the same width: low half-bytes, then high ones."""
    both = torch.empty(*lanes.shape[:-1], 2, lanes.shape[-1], dtype=lanes.dtype, device=lanes.device)
    both[..., 0, :] = lanes
    torch.bitwise_right_shift(lanes, 4, out=both[..., 1, :])
    both.view(torch.int64).bitwise_and_(LOW_NIBBLES)  # the sign bits that the shift drew in go here
    return both


def _fifth_bits(bytes_n4: Tensor) -> Tensor:
    """(n, 4) uint8 -> (n, 4) int64: byte j of lane i is 16 where bit j of byte i is set, else 0."""
    lanes = bytes_n4.long()
    lanes *= LOW_BITS  # the byte, eight times
    lanes &= ONE_BIT_EACH  # byte j: 0, or bit j alone
    lanes += SEVENS  # byte j: 127, or at least 128; no carry reaches the next byte
    lanes >>= 3
    lanes &= FIFTH
    return lanes


def q4_0(blocks: Tensor, out: Tensor) -> None:
    lanes = blocks.view(torch.int16)
    q = _nibbles(lanes[:, 1:]).view(torch.int8).view(-1, 32)
    q -= 8
    out.copy_(q).mul_(_halves(lanes[:, 0]))


def q4_1(blocks: Tensor, out: Tensor) -> None:
    lanes = blocks.view(torch.int32)
    d, m = _halves(lanes[:, 0]).split(1, dim=1)
    out.copy_(_nibbles(lanes[:, 1:]).view(torch.uint8).view(-1, 32))
    torch.addcmul(m, out, d, out=out)


def q5_0(blocks: Tensor, out: Tensor) -> None:
    lanes = blocks.view(torch.int16)
    q = _nibbles(lanes[:, 3:]).view(torch.int64).view(-1, 4)
    q |= _fifth_bits(blocks[:, 2:6])
    q = q.view(torch.int8)
    q -= 16
    out.copy_(q).mul_(_halves(lanes[:, 0]))


def q5_1(blocks: Tensor, out: Tensor) -> None:
    lanes = blocks.view(torch.int32)
    q = _nibbles(lanes[:, 2:]).view(torch.int64).view(-1, 4)
    q |= _fifth_bits(blocks[:, 4:8])
    d, m = _halves(lanes[:, 0]).split(1, dim=1)
    out.copy_(q.view(torch.uint8)).mul_(d).add_(m)


def q8_0(blocks: Tensor, out: Tensor) -> None:
    lanes = blocks.view(torch.int16)
    out.copy_(_dense(lanes[:, 1:]).view(torch.int8)).mul_(_halves(lanes[:, 0]))


def _scales(lanes: Tensor) -> tuple[Tensor, Tensor]:
    """The first four int32 lanes of q4_k and q5_k -> d s and dmin m, each (n, 8, 1) float32."""
    scale, minimum, low = _dense(lanes[:, 1:4]).unbind(1)
    whole, top, bottom = 0x3F3F_3F3F, 0x3030_3030, 0x0F0F_0F0F
    packed = torch.stack(
        (
            scale & whole,
            low & bottom | scale >> 2 & top,
            minimum & whole,
            low >> 4 & bottom | minimum >> 2 & top,
        ),
        dim=1,
    )
    both = packed.view(torch.uint8).view(-1, 2, 8, 1) * _halves(lanes[:, 0])[:, :, None, None]
    return both[:, 0], both[:, 1]


def q4_k(blocks: Tensor, out: Tensor) -> None:
    lanes = blocks.view(torch.int32)
    q = _nibbles(lanes[:, 4:].unflatten(1, (4, 8))).view(torch.uint8)
    scales, minima = _scales(lanes)
    out.view(-1, 8, 32).copy_(q.view(-1, 8, 32)).mul_(scales).sub_(minima)


def q5_k(blocks: Tensor, out: Tensor) -> None:
    lanes = blocks.view(torch.int32)
    q = _nibbles(lanes[:, 12:].unflatten(1, (4, 8))).view(torch.int64).view(-1, 8, 4)
    high = _dense(lanes[:, 4:12]).view(torch.int64)
    for subblock in range(8):  # bit `subblock` of every byte moves to place 4
        moved = high << 4 - subblock if subblock < 4 else high >> subblock - 4
        q[:, subblock] |= moved.bitwise_and_(FIFTH)
    scales, minima = _scales(lanes)
    out.view(-1, 8, 32).copy_(q.view(torch.uint8)).mul_(scales).sub_(minima)


def q6_k(blocks: Tensor, out: Tensor) -> None:
    lanes = blocks.view(torch.int16)
    q = _nibbles(lanes[:, :64].unflatten(1, (2, 32))).view(torch.int64).view(-1, 2, 4, 4)
    high = _dense(lanes[:, 64:96]).view(torch.int64).view(-1, 2, 4)
    for quarter in range(4):  # bits 2 x quarter and the next of every byte move to places 4 and 5
        moved = high << 4 - 2 * quarter if quarter < 2 else high >> 2 * quarter - 4
        q[:, :, quarter] |= moved.bitwise_and_(FIFTH_AND_SIXTH)
    q = q.view(torch.int8)
    q -= 32
    scales = _halves(lanes[:, 104]) * blocks[:, 192:208].view(torch.int8)
    out.view(-1, 16, 16).copy_(q.view(-1, 16, 16)).mul_(scales[:, :, None])
