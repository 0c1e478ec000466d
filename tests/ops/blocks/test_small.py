"""Blocks of 32 written out by hand: each number is where the drawing says."""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from cutaway.ops.blocks import small


def block(*parts: bytes) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)[None]


D, M = struct.pack("<e", 0.5), struct.pack("<e", -3.0)
LOW_THEN_HIGH = bytes(j | (15 - j) << 4 for j in range(16))  # weights 0..15 hold 0..15, weights 16..31 hold 15..0
RAMP = torch.cat((torch.arange(16.0), torch.arange(15.0, -1, -1)))
ODD = torch.arange(32) % 2


def test_q4_0() -> None:
    assert torch.equal(small.q4_0(block(D, LOW_THEN_HIGH))[0], 0.5 * (RAMP - 8))


def test_q4_1() -> None:
    assert torch.equal(small.q4_1(block(D, M, LOW_THEN_HIGH))[0], 0.5 * RAMP - 3)


def test_q5_0() -> None:
    weights = small.q5_0(block(D, struct.pack("<I", 0xAAAA_AAAA), LOW_THEN_HIGH))[0]
    assert torch.equal(weights, 0.5 * (RAMP + 16 * ODD - 16))


def test_q5_1() -> None:
    weights = small.q5_1(block(D, M, struct.pack("<I", 0xAAAA_AAAA), LOW_THEN_HIGH))[0]
    assert torch.equal(weights, 0.5 * (RAMP + 16 * ODD) - 3)


def test_q8_0() -> None:
    numbers = list(range(-128, 128, 8))
    assert torch.equal(small.q8_0(block(D, struct.pack("<32b", *numbers)))[0], 0.5 * torch.tensor(numbers).float())
