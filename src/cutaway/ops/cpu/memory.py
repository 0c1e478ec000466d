"""Memory on huge pages for packed weights: reading them in order is then bound by the memory alone.

A processor finds where a page of memory lies by looking it up, and for 60 MB in pages of 4 KB that is 15,000 look-ups a
token; pages of 2 MB need 30. One row times SmolLM2's matrices took 2.3 to 4.7 ms on small pages and 1.9 on huge ones
(int8 activations, one core of a Zen 4). The matrices are smaller than such a page, so they share larger pieces; what is
let go is used again. Where a system has no such pages this is memory like any other.
Read next: ops/cpu/pack.py
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections import deque

import torch
from torch import Tensor

PIECE = 32 << 20
"""Bytes asked of the system at a time. What of it is never written takes no memory."""

ALIGNED = 64  # a cache line, and the widest register


class Piece:
    """A run of memory; `free` are its free runs (start, end), in order and apart from each other."""

    def __init__(self, size: int):
        # This process's alone: shared memory, which mmap would make, does not come on huge pages.
        own = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
        self.memory = mmap.mmap(-1, size, **own)
        if hasattr(self.memory, "madvise") and hasattr(mmap, "MADV_HUGEPAGE"):
            self.memory.madvise(mmap.MADV_HUGEPAGE)
        self.free = [(0, size)]

    def take(self, size: int) -> int | None:
        """Where a run of `size` bytes begins that is the caller's from now on; None where there is none."""
        for index, (start, end) in enumerate(self.free):
            if end - start >= size:
                self.free[index : index + 1] = [(start + size, end)] if end - start > size else []
                return start
        return None

    def give_back(self, start: int, size: int) -> None:
        """Makes a run free again, one with its neighbours."""
        runs = sorted([*self.free, (start, start + size)])
        joined = runs[:1]
        for start, end in runs[1:]:
            if start == joined[-1][1]:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        self.free = joined


class Arena:
    """Pieces that tensors take their memory from. Any thread may ask, and let go."""

    def __init__(self, piece: int = PIECE):
        self.pieces: list[Piece] = []
        self._piece = piece
        self._lock = threading.Lock()
        # Runs that were let go, and are not free yet. Python collects garbage in the middle of anything, also of what
        # stands below, in the thread that runs it: whoever holds the lock makes them free when it is done.
        self._let_go: deque[tuple[Piece, int, int]] = deque()

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """As torch.empty, in this arena."""
        count = torch.Size(shape).numel()
        size = count * dtype.itemsize
        if not size:
            return torch.empty(shape, dtype=dtype, device="cpu")
        taken = -(-size // ALIGNED) * ALIGNED
        with self._lock:
            piece, start = self._find(taken)
        self._free()
        run = (ctypes.c_uint8 * size).from_buffer(piece.memory, start)
        weakref.finalize(run, self._give_back, piece, start, taken).atexit = False
        # The tensor's storage keeps `run`, also where only a view of it is left.
        return torch.frombuffer(run, dtype=dtype, count=count).view(shape)

    def _find(self, size: int) -> tuple[Piece, int]:
        for piece in self.pieces:
            start = piece.take(size)
            if start is not None:
                return piece, start
        whole = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        piece = Piece(max(self._piece, whole))
        self.pieces.append(piece)
        start = piece.take(size)
        assert start is not None
        return piece, start

    def _give_back(self, piece: Piece, start: int, size: int) -> None:
        self._let_go.append((piece, start, size))
        self._free()

    def _free(self) -> None:
        """Makes free what was let go, unless somebody is at it."""
        while self._let_go and self._lock.acquire(blocking=False):
            try:
                while self._let_go:
                    piece, start, size = self._let_go.popleft()
                    piece.give_back(start, size)
                    if piece.free == [(0, len(piece.memory))]:
                        self.pieces.remove(piece)  # the system has it back when nobody looks at it any more
            finally:
                self._lock.release()


ARENA = Arena()
