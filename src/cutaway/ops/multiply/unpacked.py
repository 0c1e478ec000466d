"""A quantised matrix unpacked once, in bfloat16, for products of many rows: as long as there is room for it.

A prompt of 512 tokens spends a tenth of its time unpacking weights, the next prompt again. A small model's weights fit
in memory unpacked; a large model's do not, which is why they are packed. So all unpacked copies of a process together
have a fixed room, and who finds it full unpacks slab by slab (ops/multiply/slabs.py), with the same numbers.
Read next: ops/multiply/fast.py
"""

# N rows of x · R rows (outputs) · C columns (inputs)

from __future__ import annotations

import threading
import weakref

import torch
from torch import Tensor

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.multiply.parts import slabs


class Room:
    """Bytes that copies may take together; what is dropped gives its bytes back."""

    def __init__(self, size: int):
        self.size = size
        self.held = 0
        self._lock = threading.RLock()  # a copy may go, as garbage, in the midst of what the same thread asks for

    def take(self, count: int) -> bool:
        """Whether there is room for so many bytes more; if so they are taken."""
        with self._lock:
            if self.held + count > self.size:
                return False
            self.held += count
            return True

    def give_back(self, count: int) -> None:
        with self._lock:
            self.held -= count


ROOM = Room(224 * 10**6)
"""Enough for the blocks of a model of 110 million weights; what a large model takes beside its file stays bounded."""


def unpacked(blocks: Tensor, format: BlockFormat, room: Room = ROOM) -> Tensor | None:
    """The weights (R, C) of blocks, uint8 (R, bytes per row), in bfloat16; None where there is no room for them."""
    rows, columns = len(blocks), blocks.shape[1] // format.bytes * format.weights
    size = rows * columns * torch.bfloat16.itemsize
    if not room.take(size):
        return None
    # What is made while inferring must still be of use to a training step.
    with torch.inference_mode(False), torch.no_grad():
        w_RC = torch.empty(rows, columns, dtype=torch.bfloat16, device="cpu")
        weakref.finalize(w_RC, room.give_back, size)  # first, as Ctrl-C may end what follows
        for slab in slabs(rows, columns):
            w_RC[slab] = dequantise(blocks[slab], format)
    return w_RC
