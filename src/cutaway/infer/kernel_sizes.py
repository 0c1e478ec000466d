"""How many rows a list works on, written into all its operations' arguments before a pass: lists are made for the most.

What an operation calls `count`, and `rows` of the activations that it reads or writes, is the pass's number of rows, or
so many times that (an expert layer has a row for each choice of a token). All memory is there for `MOST` rows; what a
pass does not use is not touched.
N rows of a pass.   Read next: infer/kernel_plan.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ctypes import Structure

import numpy as np

from cutaway.ops.cpu.attention import FEW, Attend, spans_for
from cutaway.ops.cpu.list import Operations

MOST = 64
"""Rows that a pass has at most; longer ones are cut. Of more rows at a time no kernel is faster: 128 and 512 took as
long for each."""

LAID = ("tiles", "x")  # fields that are activations of a pass's rows


class Sizes:
    """The places in lists that hold a number of rows; `most` stands there when lists are made. `length`: tokens that a
    sequence may reach."""

    def __init__(self, lists: Iterable[Operations], most: int, length: int):
        self.rows = most
        self._places: list[tuple[Structure, str, int]] = []
        self._attending: list[Attend] = []
        self._spans = spans_for(1, length)
        for told in (told for operations in lists for told in operations.structures):
            names = [field[0] for field in told._fields_]
            for held, name in (
                *((told, name) for name in names if name == "count"),
                *((getattr(told, name), "rows") for name in names if name in LAID and _laid(told, name)),
            ):
                times, left = divmod(getattr(held, name), most)
                if times and not left:
                    self._places.append((held, name, times))
            if isinstance(told, Attend):
                self._attending.append(told)

    def fit(self, rows: int) -> None:
        """The next pass has so many rows."""
        if rows == self.rows:
            return
        self.rows = -1  # in between it is neither
        for held, name, times in self._places:
            setattr(held, name, rows * times)
        for told in self._attending:
            told.spans = self._spans if rows <= FEW else 1
        self.rows = rows


def _laid(told: Structure, name: str) -> bool:
    return isinstance(getattr(told, name), Structure)


def fill(held: np.ndarray, new: Sequence[int], rows: int) -> None:
    """Writes new numbers in front; the last of them again up to `rows`."""
    count = len(new)
    if not count:
        return
    held[:count] = new
    if count < rows:
        held[count:rows] = held[count - 1]


def ints(count: int = MOST) -> np.ndarray:
    """Room for whole numbers, as kernels read them."""
    return np.zeros(count, dtype=np.int32)
