"""What a part keeps while decoding, said without building it: one paged engine serves every part from this.

Read next: nn/cache.py
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch

from cutaway.base.errors import BadInput


@dataclass(frozen=True)
class Stream:
    """Rows of `shape` that a mixer keeps under `name`.

    A "token" stream holds one row per `every` tokens: row r is written when token (r + 1) * every - 1 arrives, so a
    sequence of n tokens has n // every rows. Blocks that overlap (NSA: 32 tokens long, one every 16) so count by where
    they end; the first ones are not whole, and whoever reads masks them. `last=w`: the newest row's token may see at
    most w rows, itself included; older ones may be dropped, but for the `first` ones of the sequence, which are seen
    beside those w. A "sequence" stream holds one row per sequence (a recurrent state), replaced as a whole and zero at
    the start. A "memory" stream holds one row per token of another sequence (the source that an encoder read): given
    once, of any number, and not touched when tokens are taken back. `dtype=None` means the dtype that the model
    computes in, in float32 at least if `wide`: what is summed up over a whole text.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None = None
    every: int = 1
    last: int | None = None
    per: Literal["token", "sequence", "memory"] = "token"
    first: int = 0
    wide: bool = False

    def __post_init__(self) -> None:
        if self.every < 1 or (self.last is not None and self.last < 1) or any(width < 1 for width in self.shape):
            raise BadInput(f"every, last and all widths must be at least 1: {self}", field="Stream")
        if self.per != "token" and (self.every != 1 or self.last is not None):
            raise BadInput(f"a {self.per} stream has neither `every` nor `last`", field="Stream.per")
        if self.first and (self.first < 0 or self.last is None or self.every != 1):
            raise BadInput("goes with `last`, and with a row for each token", field="Stream.first")
        if self.wide and self.dtype is not None:
            raise BadInput("a stream has a dtype of its own, or the model's, widened", field="Stream.wide")

    def held_in(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of its rows, where the model computes in `dtype`."""
        return self.dtype or (torch.promote_types(dtype, torch.float32) if self.wide else dtype)

    def rows(self, tokens: int) -> int:
        """How many rows are held for a sequence of so many tokens (of a memory: for so many tokens of the source)."""
        if self.per == "sequence":
            return 1
        rows = tokens // self.every
        return rows if self.last is None else min(rows, self.first + self.last)

    def bytes(self, tokens: int, dtype: torch.dtype = torch.float32) -> int:
        """Bytes held for a sequence of so many tokens, where the model computes in `dtype`."""
        return self.rows(tokens) * prod(self.shape) * self.held_in(dtype).itemsize
