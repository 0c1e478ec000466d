"""The rows of a stream whose first ones are never forgotten: those, and a window that rolls on behind them.

The rolling cache of StreamingLLM (arXiv 2309.17453, section 3.2).   S rows.   Read next: nn/rows.py, nn/cache.py
"""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from cutaway.nn.rows import Rows
from cutaway.nn.stream import Stream


class Pinned:
    """As `Rows`, of one sequence: `stream.first` rows that stay, then `stream.last` that roll."""

    def __init__(
        self, stream: Stream, dtype: torch.dtype, device: torch.device | str | None, capacity: int, slack: int
    ):
        self.most = stream.first
        self.pinned = torch.empty(0, *stream.shape, dtype=stream.held_in(dtype), device=device)
        self.rolling = Rows(stream, dtype, device, capacity, slack)

    @property
    def end(self) -> int:
        """Rows that the sequence has had in all."""
        return len(self.pinned) + self.rolling.end

    @property
    def count(self) -> int:
        return len(self.pinned) + self.rolling.count

    @property
    def visible(self) -> int:
        """Rows that the present pass may see."""
        return len(self.pinned) + self.rolling.visible

    def append(self, rows: Tensor) -> None:
        """Adds rows behind the others."""
        free = self.most - len(self.pinned)
        if free:
            # A new tensor: the old one may be part of a mark, or of a copy.
            self.pinned = torch.cat([self.pinned, rows[:free].to(self.pinned.dtype)])
        self.rolling.append(rows[free:])

    def read(self) -> Tensor:
        """The rows that the present pass may see, the pinned ones first: a copy."""
        return torch.cat([self.pinned, self.rolling.read()])

    def all(self) -> Tensor:
        """Every row that is held."""
        return torch.cat([self.pinned, self.rolling.all()])

    def copy(self) -> Pinned:
        """Another sequence of rows, equal for now."""
        twin = copy(self)
        twin.rolling = self.rolling.copy()
        return twin

    def refuse_cut(self, end: int) -> None:
        """Raises CacheError where, cut back to `end`, rows would be needed again that were dropped."""
        self.rolling.refuse_cut(max(0, end - self.most))

    def cut(self, end: int) -> None:
        """Forgets the rows from `end` on."""
        self.pinned = self.pinned[:end]
        self.rolling.cut(max(0, end - self.most))

    def held(self) -> Tensor:
        """A copy of the rows that a later token may still see."""
        return torch.cat([self.pinned, self.rolling.held()])

    def put(self, rows: Tensor, end: int) -> None:
        """Becomes a sequence that has had `end` rows, of which `rows` are the first ones and the last."""
        pinned = min(self.most, end)
        self.pinned = rows[:pinned]
        self.rolling.put(rows[pinned:], end - pinned)

    def check(self) -> None:
        """Asserts the invariants."""
        assert len(self.pinned) == min(self.most, self.end), "a pinned row is missing, or was dropped"
        self.rolling.check()
