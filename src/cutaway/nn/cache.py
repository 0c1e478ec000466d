"""The contiguous cache: one growing buffer for each sequence of each stream. The plain sibling of the paged one.

Departure from a preallocated (batch, max_length) rectangle: sequences differ in length, and a window's old rows go.
N rows of all sequences, end to end.   Read next: nn/context.py (the protocol), nn/stream.py (what is kept)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput, CutawayError
from cutaway.nn.stream import Stream

Place = tuple[int, str]  # layer, stream name
Device = torch.device | str | None


class CacheError(CutawayError):
    """A cache was asked for what it no longer holds."""


class Rows:
    """The rows of one token stream of one sequence: an append-only buffer that may forget its oldest rows."""

    def __init__(
        self, stream: Stream, dtype: torch.dtype, device: torch.device | str | None, capacity: int, slack: int
    ):
        self.last = stream.last
        self.slack = slack  # rows kept beyond `last`, so that a few tokens can be taken back
        self.first = 0  # index, in the whole sequence, of the buffer's row 0
        self.count = 0
        self.visible = 0  # rows that the present pass may see
        rows = capacity if stream.last is None else min(capacity, 2 * (stream.last + slack))
        self.buffer = _room(rows, stream.shape, stream.dtype or dtype, device)

    @property
    def end(self) -> int:
        """Rows that the sequence has had in all."""
        return self.first + self.count

    def append(self, rows: Tensor) -> None:
        """Adds rows behind the others."""
        new = rows.shape[0]
        if self.count + new > self.buffer.shape[0]:
            self._make_room(new)
        self.buffer[self.count : self.count + new] = rows
        self.count += new
        # With `last` rows for the newest, the oldest of the new ones sees last - 1 older ones.
        self.visible = self.count if self.last is None else min(self.count, self.last - 1 + new)

    def read(self) -> Tensor:
        """The rows that the present pass may see: a view, not a copy."""
        return self.buffer[self.count - self.visible : self.count]

    def refuse_cut(self, end: int) -> None:
        """Raises CacheError where, cut back to `end`, rows would be needed again that were dropped."""
        oldest_needed = 0 if self.last is None else max(0, end - (self.last - 1))
        if oldest_needed < self.first:
            raise CacheError(f"a window of {self.last} rows cannot go back to row {end}: its older rows are gone")

    def cut(self, end: int) -> None:
        """Forgets the rows from `end` on."""
        self.count = min(self.count, end - self.first)
        self.visible = self.count if self.last is None else min(self.count, self.last)

    def held(self) -> Tensor:
        """A copy of the rows that a later token may still see."""
        keep = self.count if self.last is None else min(self.count, self.last)
        return self.buffer[self.count - keep : self.count].clone()

    def put(self, rows: Tensor, end: int) -> None:
        """Becomes a sequence that has had `end` rows, of which `rows` are the last."""
        self.first, self.count = end - rows.shape[0], 0
        self.append(rows)

    def _make_room(self, new: int) -> None:
        keep = self.count if self.last is None else min(self.count, self.last + self.slack)
        kept = self.buffer[self.count - keep : self.count]
        if keep + new > self.buffer.shape[0]:
            size = max(2 * self.buffer.shape[0], keep + new)
            roomier = _room(size, self.buffer.shape[1:], self.buffer.dtype, self.buffer.device)
        else:  # half of the buffer or more is free behind a window: move its rows to the front
            roomier, kept = self.buffer, kept.clone()
        roomier[:keep] = kept
        self.first += self.count - keep
        self.count, self.buffer = keep, roomier


def _room(rows: int, shape: Sequence[int], dtype: torch.dtype, device: Device) -> Tensor:
    """Empty rows of a shape. Those of several heads (G, K) lie head by head, not row by row: attention reads one head
    after the other, and at 560 rows takes two thirds of the time (84 us against 122, 2 threads, 3 kv heads of 64)."""
    if len(shape) < 2:
        return torch.empty(rows, *shape, dtype=dtype, device=device)
    return torch.empty(shape[0], rows, *shape[1:], dtype=dtype, device=device).transpose(0, 1)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Where a sequence stood. Plain streams are only cut back, so it holds their length alone; windows and states
    are held as they were."""

    length: int
    cuts: int
    windows: dict[Place, tuple[Tensor, int]]
    states: dict[Place, Tensor]


class ContiguousCache:
    """What `sequences` sequences keep in every layer. Implements `nn.context.CacheView`.

    `streams`: those of each layer, as a spec's blocks say. `capacity`: tokens to make room for at once; the buffers
    grow beyond it. `slack`: how many tokens `truncate` can take back where a stream has a window.
    """

    def __init__(
        self,
        streams: Sequence[tuple[Stream, ...]],
        *,
        sequences: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        capacity: int = 256,
        slack: int = 16,
    ):
        self._every: dict[Place, Stream] = {
            (layer, stream.name): stream for layer, kept in enumerate(streams) for stream in kept
        }
        if len(self._every) != sum(len(kept) for kept in streams):
            raise BadInput("a layer has two streams of one name", field="streams")
        self._rows: dict[Place, list[Rows]] = {}
        self._states: dict[Place, Tensor] = {}
        for place, stream in self._every.items():
            if stream.per == "sequence":
                self._states[place] = torch.zeros(sequences, *stream.shape, dtype=stream.dtype or dtype, device=device)
            else:
                room = capacity // stream.every + 1
                self._rows[place] = [Rows(stream, dtype, device, room, slack) for _ in range(sequences)]
        self._lengths = [0] * sequences
        self._cuts: list[list[int]] = [[] for _ in range(sequences)]  # lengths that each sequence was cut to, in order

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(self._lengths)

    @property
    def bytes(self) -> int:
        """Bytes of all rows and states that are held, without the buffers' spare room."""
        tensors = [rows.buffer[: rows.count] for kept in self._rows.values() for rows in kept]
        return sum(tensor.numel() * tensor.element_size() for tensor in [*tensors, *self._states.values()])

    def append(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...]) -> None:
        kept = self._rows[layer, name]
        if len(kept) == 1:
            kept[0].append(rows)
            return
        for buffer, part in zip(kept, rows.split(counts), strict=True):
            buffer.append(part)

    def read(self, layer: int, name: str) -> tuple[Tensor, tuple[int, ...]]:
        state = self._states.get((layer, name))
        if state is not None:
            return state, (1,) * len(self._lengths)
        kept = self._rows[layer, name]
        if len(kept) == 1:
            return kept[0].read(), (kept[0].visible,)
        return torch.cat([rows.read() for rows in kept]), tuple(rows.visible for rows in kept)

    def replace(self, layer: int, name: str, rows: Tensor) -> None:
        self._states[layer, name] = rows

    def advance(self, counts: tuple[int, ...]) -> None:
        self._lengths = [length + count for length, count in zip(self._lengths, counts, strict=True)]

    def truncate(self, sequence: int, length: int) -> None:
        if not 0 <= length <= self._lengths[sequence]:
            raise CacheError(f"cannot cut a sequence of {self._lengths[sequence]} tokens to {length}")
        if self._states and length != self._lengths[sequence]:
            raise CacheError("a recurrent state cannot be cut back: restore a snapshot")
        ends = {place: length // self._every[place].every for place in self._rows}
        for place, end in ends.items():
            self._rows[place][sequence].refuse_cut(end)  # all or none
        for place, end in ends.items():
            self._rows[place][sequence].cut(end)
        self._lengths[sequence] = length
        self._cuts[sequence].append(length)

    def snapshot(self, sequence: int) -> Mark:
        return Mark(
            length=self._lengths[sequence],
            cuts=len(self._cuts[sequence]),
            windows={
                place: (kept[sequence].held(), kept[sequence].end)
                for place, kept in self._rows.items()
                if self._every[place].last is not None
            },
            states={place: state[sequence].clone() for place, state in self._states.items()},
        )

    def restore(self, sequence: int, mark: Mark) -> None:
        lowest = min([self._lengths[sequence], *self._cuts[sequence][mark.cuts :]])
        if lowest < mark.length:
            raise CacheError(f"the sequence was cut below the mark's {mark.length} tokens: the mark is void")
        for place, kept in self._rows.items():
            if place in mark.windows:
                kept[sequence].put(*mark.windows[place])
            else:
                kept[sequence].cut(mark.length // self._every[place].every)
        for place, state in mark.states.items():
            # A new tensor: the old one may still be part of somebody's graph or mark.
            rows = list(self._states[place].unbind(0))
            rows[sequence] = state
            self._states[place] = torch.stack(rows)
        self._lengths[sequence] = mark.length
        self._cuts[sequence].append(mark.length)

    def check(self) -> None:
        """Asserts the invariants: every stream has as many rows as its sequence's tokens ask for."""
        for place, kept in self._rows.items():
            stream = self._every[place]
            for length, rows in zip(self._lengths, kept, strict=True):
                assert rows.end == length // stream.every, f"{place}: {rows.end} rows for {length} tokens"
                needed = rows.end if stream.last is None else min(rows.end, stream.last - 1)  # by the next token
                assert rows.count >= needed, f"{place}: a row that may be seen is gone"
                assert rows.first >= 0 and rows.count <= rows.buffer.shape[0], f"{place}: rows outside the buffer"
