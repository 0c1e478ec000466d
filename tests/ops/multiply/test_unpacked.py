"""Unpacked copies hold the slabs' numbers, stay within their room, and give it back."""

from __future__ import annotations

import gc
import threading

import pytest
import torch

from cutaway.ops import packed as packed_module
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.multiply import unpacked as unpacked_module
from cutaway.ops.multiply.fast import multiply_bfloat16, multiply_fast
from cutaway.ops.multiply.slabs import multiply_slabs
from cutaway.ops.multiply.unpacked import Room, unpacked


@pytest.mark.parametrize("name", ["q4_1", "q6_k", "q8_0"])
def test_products_are_those_of_the_slabs(name, matrix):
    packed = matrix(name, 64, 256)
    x = torch.randn(40, 256).bfloat16()
    expected = multiply_slabs(x, packed.blocks, packed.format)
    torch.testing.assert_close(multiply_fast(x, packed), expected, rtol=0, atol=0)
    torch.testing.assert_close(multiply_bfloat16(x.float(), packed), expected.float(), rtol=0, atol=0)
    assert packed.unpacked is not None


def test_float32_rows_are_not_rounded(matrix):
    packed = matrix("q4_1", 64, 256)
    multiply_fast(torch.randn(40, 256), packed)
    assert packed.unpacked is None


def test_a_full_room_refuses_and_the_product_is_the_same(matrix, monkeypatch):
    packed, x = matrix("q4_1", 64, 256), torch.randn(100, 256).bfloat16()
    full = Room(64 * 256 * 2 - 1)
    monkeypatch.setattr(packed_module, "unpacked", lambda blocks, format: unpacked(blocks, format, full))
    expected = multiply_slabs(x, packed.blocks, packed.format)
    torch.testing.assert_close(multiply_fast(x, packed), expected, rtol=0, atol=0)
    assert packed.unpacked is None and full.held == 0


def test_what_is_dropped_gives_its_room_back(matrix):
    packed, room = matrix("q4_1", 64, 256), Room(10**6)
    copy = unpacked(packed.blocks, packed.format, room)
    assert copy is not None and room.held == 64 * 256 * 2
    del copy
    gc.collect()
    assert room.held == 0


def test_what_is_dropped_while_its_thread_asks_for_room_holds_nobody_up(matrix):
    packed, room = matrix("q4_1", 64, 256), Room(10**6)
    copies = [unpacked(packed.blocks, packed.format, room)]

    def asks() -> None:
        with room._lock:
            copies.clear()
            gc.collect()

    thread = threading.Thread(target=asks, daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive() and room.held == 0


def test_what_is_interrupted_gives_its_room_back(matrix, monkeypatch):
    packed, room = matrix("q4_1", 64, 256), Room(10**6)

    def interrupt(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(unpacked_module, "dequantise", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpacked(packed.blocks, packed.format, room)
    gc.collect()
    assert room.held == 0


def test_new_blocks_drop_the_copy(matrix):
    packed, other = matrix("q4_1", 64, 256), matrix("q4_1", 64, 256)
    packed.many()
    packed.load_state_dict(other.state_dict())
    assert packed.unpacked is None
    torch.testing.assert_close(packed.many(), other.many(), rtol=0, atol=0)


def test_gradients_go_through_the_slabs(matrix):
    packed = matrix("q4_1", 64, 256)
    x = torch.randn(40, 256, dtype=torch.bfloat16, requires_grad=True)
    multiply_fast(x, packed).sum().backward()
    assert x.grad is not None and packed.unpacked is None


def test_a_model_on_meta_has_none(matrix):
    packed = matrix("q4_1", 64, 256)
    packed.to("meta")
    assert packed.many() is None and FORMATS["q4_1"] is packed.format
