"""Blocks of 32 weights, unpacked step by step: q4_0, q4_1, q5_0, q5_1, q8_0.

One scale d (fp16), sometimes one minimum m (fp16), and 32 small integers q:   w = d q   or   w = d q + m

    q4_0  [d d | 16 bytes of q]                      w = d (q - 8)        q in 0..15
    q4_1  [d d | m m | 16 bytes of q]                w = d q + m          q in 0..15
    q5_0  [d d | 4 bytes of high bits | 16 bytes]    w = d (q - 16)       q in 0..31
    q5_1  [d d | m m | 4 bytes of high bits | 16]    w = d q + m          q in 0..31
    q8_0  [d d | 32 bytes of q]                      w = d q              q in -128..127

Byte j of the 16 holds weight j in its low four bits and weight j + 16 in its high four (not neighbours: this way one
mask and one shift on a whole vector of bytes give both halves in order). Bit j of the four bytes is the fifth bit of
weight j. Layout: ggml's `ggml-common.h`; every product fits in fp32's 24 bits, so each sum is rounded exactly once.
These forms are for reading; the fast ones are in ops/blocks/lanes.py.   Read next: ops/blocks/superblocks.py
"""

# n blocks · 32 weights in a block

from __future__ import annotations

import torch
from torch import Tensor


def halves(bytes_n2: Tensor) -> Tensor:
    """(n, 2k) uint8, k little-endian fp16 numbers -> (n, k) float32."""
    return bytes_n2.contiguous().view(torch.float16).float()


def nibbles(bytes_n16: Tensor) -> Tensor:
    """(n, k) uint8 -> (n, 2k): first every low half-byte, then every high one."""
    return torch.cat((bytes_n16 & 15, bytes_n16 >> 4), dim=-1)


def fifth_bits(bytes_n4: Tensor) -> Tensor:
    """(n, 4) uint8 -> (n, 32): bit j as 0 or 16, the value of a fifth bit."""
    places = torch.arange(8, dtype=torch.uint8, device=bytes_n4.device)
    return ((bytes_n4[:, :, None] >> places & 1) << 4).flatten(1)


def q4_0(blocks: Tensor) -> Tensor:
    """(n, 18) uint8 -> (n, 32) float32."""
    d, q = halves(blocks[:, :2]), nibbles(blocks[:, 2:])
    return d * (q.float() - 8)


def q4_1(blocks: Tensor) -> Tensor:
    """(n, 20) uint8 -> (n, 32) float32."""
    d, m, q = halves(blocks[:, :2]), halves(blocks[:, 2:4]), nibbles(blocks[:, 4:])
    return d * q.float() + m


def q5_0(blocks: Tensor) -> Tensor:
    """(n, 22) uint8 -> (n, 32) float32."""
    d, q = halves(blocks[:, :2]), nibbles(blocks[:, 6:]) | fifth_bits(blocks[:, 2:6])
    return d * (q.float() - 16)


def q5_1(blocks: Tensor) -> Tensor:
    """(n, 24) uint8 -> (n, 32) float32."""
    d, m = halves(blocks[:, :2]), halves(blocks[:, 2:4])
    q = nibbles(blocks[:, 8:]) | fifth_bits(blocks[:, 4:8])
    return d * q.float() + m


def q8_0(blocks: Tensor) -> Tensor:
    """(n, 34) uint8 -> (n, 32) float32."""
    d, q = halves(blocks[:, :2]), blocks[:, 2:].view(torch.int8)
    return d * q.float()
