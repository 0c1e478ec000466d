"""A packed matrix holds what it needs and no unpacked weights; it moves, is saved and loaded like any module."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.multiply.bags import Bags
from cutaway.ops.multiply.nibbles import Nibbles
from cutaway.ops.packed import Packed


def packed_matrix(name: str = "q4_1", rows: int = 64, columns: int = 128) -> Packed:
    return Packed(blocks=quantise(torch.randn(rows, columns), FORMATS[name]), format=FORMATS[name])


def tensors(thing: object) -> list[Tensor]:
    """All tensors that an object reaches through attributes and dictionaries."""
    if isinstance(thing, Tensor):
        return [thing]
    inside = thing.values() if isinstance(thing, dict) else vars(thing).values() if hasattr(thing, "__dict__") else ()
    return [tensor for part in inside for tensor in tensors(part)]


@pytest.mark.parametrize("shape, dtype", [((4, 30), torch.uint8), ((40,), torch.uint8), ((4, 20), torch.int8)])
def test_what_is_not_blocks_is_refused(shape, dtype):
    with pytest.raises(BadInput, match="q4_1"):
        Packed(blocks=torch.zeros(shape, dtype=dtype), format=FORMATS["q4_1"])


def test_shape_counts_weights():
    assert packed_matrix("q8_0", 3, 96).shape == (3, 96)


@pytest.mark.parametrize("name, exact", [("q4_0", False), ("q4_1", False), ("q4_1", True), ("q8_0", False)])
def test_no_unpacked_weights_are_held(name, exact):
    packed = packed_matrix(name, 256, 512)
    packed.few(exact)
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors(packed)) - packed.blocks.numel()
    kind = next(iter(packed.copies), None)
    # A half-byte or a byte each, and per 32 weights four bytes for each of scale and offset; a table ends in 8 bytes.
    most = {Nibbles: 0.5 + 4 / 32, Bags: 1 + 8 / 32, None: 0}[kind] * packed.shape.numel()
    assert held <= most + 8 * packed.shape[1]


def test_copies_are_made_once_and_shared():
    packed = packed_matrix("q8_0")
    assert packed.few() is packed.few()
    assert packed.few() is packed.few(exact=True)


@pytest.mark.skipif(not Nibbles.fits(FORMATS["q4_1"], 64), reason="this machine has no 4-bit kernel")
def test_exactness_is_asked_for():
    packed = packed_matrix("q4_1")
    assert isinstance(packed.few(), Nibbles)
    assert not isinstance(packed.few(exact=True), Nibbles)


def test_casting_leaves_blocks_and_copies_alone():
    packed = packed_matrix()
    before, copy = packed.blocks, packed.few()
    packed.to(torch.bfloat16)
    assert packed.blocks is before and packed.few() is copy


def test_moving_drops_the_copies():
    packed = packed_matrix()
    packed.few()
    packed.to("meta")
    assert packed.blocks.is_meta and packed.copies == {} and packed.few() is None


def test_state_is_the_blocks_alone_and_comes_back():
    packed, other = packed_matrix(), packed_matrix()
    packed.few()
    assert list(packed.state_dict()) == ["blocks"]
    other.few()
    other.load_state_dict(packed.state_dict())
    assert torch.equal(other.blocks, packed.blocks) and other.copies == {}


def test_loading_never_writes_into_the_file(tmp_path):
    saved, path = packed_matrix(), tmp_path / "blocks"
    path.write_bytes(bytes(saved.blocks.numel()))
    mapped = np.memmap(path, dtype=np.uint8, mode="c", shape=saved.blocks.shape)
    blocks = torch.from_numpy(mapped)
    packed = Packed(blocks=blocks, format=saved.format)
    packed.load_state_dict(saved.state_dict())
    assert torch.equal(packed.blocks, saved.blocks) and not mapped.any()


def test_a_deep_copy_stands_alone():
    packed = packed_matrix()
    twin = copy.deepcopy(packed)
    twin.blocks.zero_()
    assert packed.blocks.any()


def test_it_says_what_it_is():
    assert repr(packed_matrix("q4_1", 64, 128)) == "Packed(128 -> 64, q4_1)"


def test_without_an_exact_kernel_there_is_no_exact_copy(monkeypatch):
    monkeypatch.setattr(Bags, "fits", lambda format, rows: False)
    assert packed_matrix("q4_1").few(exact=True) is None
