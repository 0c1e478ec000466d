"""Superblocks written out by a plain loop over weights: each number is where the drawing says."""

from __future__ import annotations

import random
import struct

import pytest
import torch
from torch import Tensor

from cutaway.ops.blocks import superblocks

DRAW = random.Random(0)
SCALES = [DRAW.randrange(64) for _ in range(8)]
MINIMA = [DRAW.randrange(64) for _ in range(8)]
D, DMIN = 0.25, 0.125


def as_block(data: bytearray) -> Tensor:
    return torch.frombuffer(data, dtype=torch.uint8)[None]


def twelve_bytes() -> bytes:
    """SCALES and MINIMA as the drawing has them."""
    packed = bytearray(12)
    for i in range(4):
        packed[i] = SCALES[i] | SCALES[i + 4] >> 4 << 6
        packed[4 + i] = MINIMA[i] | MINIMA[i + 4] >> 4 << 6
        packed[8 + i] = SCALES[i + 4] & 15 | (MINIMA[i + 4] & 15) << 4
    return bytes(packed)


def test_twelve_bytes_hold_sixteen_numbers_of_six_bits() -> None:
    scales, minima = superblocks.scales_and_minima(as_block(bytearray(twelve_bytes())))
    assert scales[0].tolist() == SCALES
    assert minima[0].tolist() == MINIMA


@pytest.mark.parametrize("bits", [4, 5])
def test_q4_k_and_q5_k(bits: int) -> None:
    q = [DRAW.randrange(1 << bits) for _ in range(256)]
    low, high = bytearray(128), bytearray(32)
    for i, value in enumerate(q):
        subblock, j = divmod(i, 32)
        low[32 * (subblock // 2) + j] |= (value & 15) << 4 * (subblock % 2)
        high[j] |= (value >> 4) << subblock
    head = bytearray(struct.pack("<ee", D, DMIN) + twelve_bytes())
    form = superblocks.q4_k if bits == 4 else superblocks.q5_k
    weights = form(as_block(head + low if bits == 4 else head + high + low))[0]
    assert weights.tolist() == [D * SCALES[i // 32] * q[i] - DMIN * MINIMA[i // 32] for i in range(256)]


def test_q6_k() -> None:
    q = [DRAW.randrange(64) for _ in range(256)]
    scales = [DRAW.randrange(-128, 128) for _ in range(16)]
    low, high = bytearray(128), bytearray(64)
    for i, value in enumerate(q):
        half, place = divmod(i, 128)
        low[64 * half + place % 64] |= (value & 15) << 4 * (place // 64)
        high[32 * half + place % 32] |= (value >> 4) << 2 * (place // 32)
    data = low + high + bytearray(struct.pack("<16be", *scales, D))
    weights = superblocks.q6_k(as_block(data))[0]
    assert weights.tolist() == [D * scales[i // 16] * (q[i] - 32) for i in range(256)]
