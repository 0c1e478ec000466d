"""The cosines and sines that lists point to, of all positions that a sequence may reach, filled as far as one has.

Equation and papers: ops/rope.py. P position · W rotary width.   Read next: infer/kernel_plan.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.nn.positions import Rope
from cutaway.ops import rope as turning

BLOCK = 1024
"""Positions that are worked out at a time: always the same ones, as torch rounds the last few in a way of their own."""


class Turns:
    """The tables of all ropes of a model for `length` positions. Memory that nobody has filled yet is none."""

    def __init__(self, length: int):
        self.length, self.room = length, 0
        self._tables: dict[Rope, tuple[Tensor, Tensor]] = {}

    def of(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """(cos, sin), each (P, W). They stay where they are; `grow` fills them."""
        if rope not in self._tables:
            self._tables[rope] = (torch.empty(self.length, rope.width), torch.empty(self.length, rope.width))
        return self._tables[rope]

    def grow(self, end: int) -> None:
        """Fills all tables for sequences of so many tokens."""
        while self.room < min(end, self.length):
            block = torch.arange(self.room, min(self.room + BLOCK, self.length))
            for rope, (cos_PW, sin_PW) in self._tables.items():
                amplitude = 1.0 if rope.scaling is None else rope.scaling.amplitude
                told = {"amplitude": amplitude, "interleaved": rope.interleaved}
                cos, sin = turning.tables(rope.frequencies(), block, **told)
                cos_PW[block], sin_PW[block] = cos.squeeze(1), sin.squeeze(1)
            self.room += len(block)
