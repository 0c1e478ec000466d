"""Superblocks of 256 weights, unpacked step by step: q4_k, q5_k, q6_k (llama.cpp's "K-quants").

Two levels: 8 sub-blocks of 32 weights with a small integer scale (and minimum), under one fp16 scale (and minimum).

    q4_k  [d d | dmin dmin | 12 bytes of scales | 128 bytes of q]                   w = (d s) q - (dmin m)
    q5_k  [d d | dmin dmin | 12 bytes of scales | 32 of high bits | 128 bytes]      w = (d s) q - (dmin m)
    q6_k  [128 bytes of low bits | 64 of high bits | 16 scales (int8) | d d]        w = (d s) (q - 32)

The 12 bytes hold eight scales s and eight minima m of 6 bits. Each letter is one bit, capitals are scales, small
letters minima; sub-blocks 0-3 have theirs whole, 4-7 keep their top two bits above those of 0-3:

    bytes 0-3   EE AAAAAA   FF BBBBBB   GG CCCCCC   HH DDDDDD      A-D: scales 0-3     E-H: top bits of scales 4-7
    bytes 4-7   ee aaaaaa   ff bbbbbb   gg cccccc   hh dddddd      the same for the minima
    bytes 8-11  eeee EEEE   ffff FFFF   gggg GGGG   hhhh HHHH      the low four bits of scales and minima 4-7

q of q4_k and q5_k: four runs of 32 bytes; run r holds sub-block 2r in its low half-bytes and 2r + 1 in its high ones.
The fifth bits of q5_k: bit k of byte j belongs to weight j of sub-block k.
q of q6_k: two halves of 128 weights; in each, 64 bytes give the low four bits (low half-bytes: weights 0-63, high ones:
64-127) and byte j of 32 gives two high bits each to weights j, j + 32, j + 64, j + 96. One scale serves 16 weights.
Layout: ggml's `ggml-common.h`; d s q has at most 11 + 6 + 5 significant bits (q6_k: 11 + 7 + 5), so products are exact.
These forms are for reading; the fast ones are in ops/blocks/lanes.py.   Read next: ops/blocks/lanes.py
"""

# n blocks · 256 weights in a block

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.ops.blocks.small import halves


def scales_and_minima(bytes_n12: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 12) uint8 -> scales (n, 8) and minima (n, 8), each 0..63 in uint8."""
    scale, minimum, low = bytes_n12[:, 0:4], bytes_n12[:, 4:8], bytes_n12[:, 8:12]
    scales = torch.cat((scale & 63, (low & 15) | (scale >> 6 << 4)), dim=1)
    minima = torch.cat((minimum & 63, (low >> 4) | (minimum >> 6 << 4)), dim=1)
    return scales, minima


def _paired_nibbles(bytes_n128: Tensor) -> Tensor:
    """(n, 128) uint8 -> (n, 8, 32): from each run of 32 bytes the low half-bytes, then the high ones."""
    runs = bytes_n128.unflatten(1, (4, 32))
    return torch.stack((runs & 15, runs >> 4), dim=2).flatten(1, 2)


def _scaled(q_n8_32: Tensor, blocks: Tensor) -> Tensor:
    """(d s) q - (dmin m) for q (n, 8, 32) -> (n, 256); q4_k and q5_k begin with the same 16 bytes."""
    d, dmin = halves(blocks[:, 0:2]), halves(blocks[:, 2:4])
    scales, minima = scales_and_minima(blocks[:, 4:16])
    return ((d * scales)[:, :, None] * q_n8_32.float() - (dmin * minima)[:, :, None]).flatten(1)


def q4_k(blocks: Tensor) -> Tensor:
    """(n, 144) uint8 -> (n, 256) float32."""
    return _scaled(_paired_nibbles(blocks[:, 16:]), blocks)


def q5_k(blocks: Tensor) -> Tensor:
    """(n, 176) uint8 -> (n, 256) float32."""
    subblocks = torch.arange(8, dtype=torch.uint8, device=blocks.device)
    fifth = (blocks[:, None, 16:48] >> subblocks[:, None]) & 1
    return _scaled(_paired_nibbles(blocks[:, 48:]) | fifth << 4, blocks)


def q6_k(blocks: Tensor) -> Tensor:
    """(n, 210) uint8 -> (n, 256) float32."""
    low, high = blocks[:, :128].unflatten(1, (2, 64)), blocks[:, 128:192].unflatten(1, (2, 1, 32))
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=blocks.device)[:, None]
    low = torch.cat((low & 15, low >> 4), dim=2)
    high = ((high >> shifts) & 3).flatten(2)
    q = (low | high << 4).flatten(1).float() - 32
    scales = halves(blocks[:, 208:210]) * blocks[:, 192:208].view(torch.int8)
    return scales.repeat_interleave(16, dim=1) * q
