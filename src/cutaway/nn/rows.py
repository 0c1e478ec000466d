"""The rows of one stream: a buffer that grows and may forget its oldest, or a memory that is given once.

First rows that are never forgotten, and a window that rolls on behind them, are the rolling cache of StreamingLLM
(arXiv 2309.17453, section 3.2).   S rows.   Read next: nn/cache.py
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from cutaway.base.errors import CutawayError
from cutaway.nn.stream import Stream

Device = torch.device | str | None


class CacheError(CutawayError):
    """A cache was asked for what it no longer holds."""


class Rows:
    """The rows of one token stream of one sequence: an append-only buffer that may forget rows. `stream.first` of them
    stay in front; of the others it may forget the oldest."""

    def __init__(
        self, stream: Stream, dtype: torch.dtype, device: torch.device | str | None, capacity: int, slack: int
    ):
        self.first, self.last = stream.first, stream.last
        self.slack = slack  # rows kept beyond `last`, so that a few tokens can be taken back
        self.dropped = 0  # rows of the sequence that are gone
        self.count = 0
        self.visible = 0  # rows that the present pass may see: the first ones, and the last
        rows = capacity if stream.last is None else min(capacity, stream.first + 2 * (stream.last + slack))
        self.buffer = _room(rows, stream.shape, stream.held_in(dtype), device)

    @property
    def end(self) -> int:
        """Rows that the sequence has had in all."""
        return self.dropped + self.count

    def append(self, rows: Tensor) -> None:
        """Adds rows behind the others."""
        start = self.extend(rows.shape[0])
        self.buffer[start : self.count] = rows

    def extend(self, new: int) -> int:
        """Adds so many rows that are still to be written, by a kernel, into `buffer`; returns where there."""
        if self.count + new > self.buffer.shape[0]:
            self._make_room(new)
        start = self.count
        self.count += new
        # With `last` rows for the newest, the oldest of the new ones sees last - 1 older ones.
        self.visible = self.count if self.last is None else self._latest(self.last - 1 + new)
        return start

    def read(self) -> Tensor:
        """The rows that the present pass may see: a view, not a copy, where they lie side by side."""
        return self._joined(self.visible)

    def all(self) -> Tensor:
        """Every row that is held: a view."""
        return self.buffer[: self.count]

    def copy(self) -> Rows:
        """Another sequence of rows, equal for now."""
        twin = copy(self)
        twin.buffer = _room(self.buffer.shape[0], self.buffer.shape[1:], self.buffer.dtype, self.buffer.device)
        twin.buffer[: self.count] = self.buffer[: self.count]
        return twin

    def refuse_cut(self, end: int) -> None:
        """Raises CacheError where, cut back to `end`, rows would be needed again that were dropped."""
        needed = 0 if self.last is None else self.first + max(0, end - self.first - (self.last - 1))
        if self.dropped and needed < self.first + self.dropped:
            raise CacheError(f"a window of {self.last} rows cannot go back to row {end}: its older rows are gone")

    def cut(self, end: int) -> None:
        """Forgets the rows from `end` on."""
        self.count = min(self.count, end - self.dropped)
        self.visible = self.count if self.last is None else self._latest(self.last)

    def held(self) -> Tensor:
        """A copy of the rows that a later token may still see."""
        return self._joined(self.count if self.last is None else self._latest(self.last)).clone()

    def put(self, rows: Tensor, end: int) -> None:
        """Becomes a sequence that has had `end` rows, of which `rows` are the first ones and the last."""
        self.dropped, self.count = end - rows.shape[0], 0
        self.append(rows)

    def check(self) -> None:
        """Asserts the invariants."""
        rolling = self.end - self._staying
        needed = rolling if self.last is None else min(rolling, self.last - 1)  # by the next token
        assert self.count >= self._staying + needed, "a row that may be seen is gone"
        assert self.count >= self.first or not self.dropped, "a first row was dropped"
        assert self.dropped >= 0 and self.count <= self.buffer.shape[0], "rows outside the buffer"

    @property
    def _staying(self) -> int:
        """First rows that there are."""
        return min(self.first, self.count)

    def _latest(self, rolling: int) -> int:
        """Rows in all, if of those that roll no more than so many count."""
        return min(self.count, self._staying + rolling)

    def _joined(self, rows: int) -> Tensor:
        """The first rows and the last ones, so many in all."""
        staying, skipped = self._staying, self.count - rows
        if not skipped or not staying:
            return self.buffer[skipped : self.count]
        return torch.cat((self.buffer[:staying], self.buffer[staying + skipped : self.count]))

    def _make_room(self, new: int) -> None:
        staying = self._staying
        keep = self.count if self.last is None else self._latest(self.last + self.slack)
        kept = self.buffer[self.count - (keep - staying) : self.count]
        if keep + new > self.buffer.shape[0]:
            size = max(2 * self.buffer.shape[0], keep + new)
            roomier = _room(size, self.buffer.shape[1:], self.buffer.dtype, self.buffer.device)
            roomier[:staying] = self.buffer[:staying]
        else:  # half of the buffer or more is free behind a window: move its rows to the front
            roomier, kept = self.buffer, kept.clone()
        roomier[staying:keep] = kept
        self.dropped += self.count - keep
        self.count, self.buffer = keep, roomier


def _room(rows: int, shape: Sequence[int], dtype: torch.dtype, device: Device) -> Tensor:
    """Empty rows of a shape. Those of several heads (G, K) lie head by head, not row by row: attention reads one head
    after the other, and at 560 rows takes two thirds of the time (84 us against 122, 2 threads, 3 kv heads of 64)."""
    if len(shape) < 2:
        return torch.empty(rows, *shape, dtype=dtype, device=device)
    return torch.empty(shape[0], rows, *shape[1:], dtype=dtype, device=device).transpose(0, 1)


class Memories:
    """The rows of one memory stream, of all sequences end to end. They are written once and read in every pass, so they
    lie as they are read; nothing changes in place."""

    def __init__(self, stream: Stream, dtype: torch.dtype, device: Device, sequences: int):
        self.rows_S = _room(0, stream.shape, stream.held_in(dtype), device)
        self.counts = (0,) * sequences
        self._origins: list[object] = [None] * sequences  # equal ones are copies of one memory

    def put(self, rows_S: Tensor, counts: tuple[int, ...]) -> None:
        """Replaces those of each sequence that gets any."""
        old, new = self.rows_S.split(self.counts), rows_S.split(counts)
        origins = [object() if count else origin for count, origin in zip(counts, self._origins, strict=True)]
        self._lay([fresh if fresh.shape[0] else ours for ours, fresh in zip(old, new, strict=True)], origins)

    def of(self, sequence: int) -> Tensor:
        """The rows of one sequence."""
        return self.rows_S.split(self.counts)[sequence]

    def set(self, sequence: int, rows_S: Tensor) -> None:
        """Makes those of one sequence these, also none."""
        parts, origins = list(self.rows_S.split(self.counts)), list(self._origins)
        parts[sequence], origins[sequence] = rows_S, object()
        self._lay(parts, origins)

    def select(self, sequences: Sequence[int]) -> None:
        """Makes sequence i's those that `sequences[i]` had. Where beams of one source change places, nothing moves."""
        origins = [self._origins[one] for one in sequences]
        if origins != self._origins:
            parts = self.rows_S.split(self.counts)
            self._lay([parts[one] for one in sequences], origins)

    def _lay(self, parts: list[Tensor], origins: list[object]) -> None:
        dtype, counts = self.rows_S.dtype, tuple(part.shape[0] for part in parts)
        if self.rows_S.ndim < 3:
            rows_S = torch.cat(parts).to(dtype)
        else:  # head by head, as `_room` says
            rows_S = torch.cat([part.transpose(0, 1) for part in parts], 1).to(dtype).transpose(0, 1)
        self.rows_S, self.counts, self._origins = rows_S, counts, origins
