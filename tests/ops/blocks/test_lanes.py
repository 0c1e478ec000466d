"""Every value of every byte goes through the fast forms as through the readable ones."""

from __future__ import annotations

import struct

import pytest
import torch

from cutaway.ops.blocks.dequantise import FAST, READABLE
from cutaway.ops.blocks.format import FORMATS

PLACES = {"q6_k": (208,), "q4_1": (0, 2), "q5_1": (0, 2), "q4_k": (0, 2), "q5_k": (0, 2)}


@pytest.mark.parametrize("name", FORMATS)
def test_each_byte_value_in_each_place(name: str) -> None:
    format = FORMATS[name]
    values = torch.arange(256, dtype=torch.uint8)[:, None]
    blocks = values + 37 * torch.arange(format.bytes, dtype=torch.uint8)  # block v has v + 37 j in byte j
    for place in PLACES.get(name, (0,)):
        scale = bytearray(struct.pack("<e", 0.0123 + place))
        blocks[:, place : place + 2] = torch.frombuffer(scale, dtype=torch.uint8)
    fast = torch.full((256, format.weights), torch.nan)
    before = blocks.clone()
    FAST[name](blocks, fast)
    assert torch.equal(fast, READABLE[name](blocks))
    assert torch.equal(blocks, before)


@pytest.mark.parametrize("name", FORMATS)
def test_a_single_block_is_a_block(name: str) -> None:
    """Torch calls one row contiguous whatever its stride, which once kept its lanes from being seen as others."""
    format = FORMATS[name]
    block = torch.arange(format.bytes, dtype=torch.uint8)[None]
    fast = torch.empty(1, format.weights)
    FAST[name](block, fast)
    assert torch.equal(fast, READABLE[name](block))
