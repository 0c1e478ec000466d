"""The contiguous cache: one growing buffer for each sequence of each stream. The plain sibling of the paged one.

Departure from a preallocated (batch, max_length) rectangle: sequences differ in length, and a window's old rows go.
N rows of all sequences, end to end.   Read next: nn/rows.py (one stream), nn/context.py (the protocol), nn/stream.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.nn.rows import CacheError as CacheError
from cutaway.nn.rows import Memories, Rows
from cutaway.nn.stream import Stream

Place = tuple[int, str]  # layer, stream name


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Where a sequence stood. Plain streams are only cut back, so it holds their length alone; windows, states and
    memories are held as they were."""

    length: int
    cuts: int
    windows: dict[Place, tuple[Tensor, int]]
    states: dict[Place, Tensor]
    memories: dict[Place, Tensor]


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
        self._memories: dict[Place, Memories] = {}
        for place, stream in self._every.items():
            if stream.per == "sequence":
                self._states[place] = torch.zeros(sequences, *stream.shape, dtype=stream.held_in(dtype), device=device)
            elif stream.per == "memory":
                self._memories[place] = Memories(stream, dtype, device, sequences)
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
        """Bytes of all rows, states and memories that are held, without the buffers' spare room."""
        tensors = [rows.all() for kept in self._rows.values() for rows in kept]
        tensors += [*self._states.values(), *(memories.rows_S for memories in self._memories.values())]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def rows(self, layer: int, name: str) -> list[Rows]:
        """A token stream as it is held, for each sequence: for kernels, which read and write it where it lies."""
        return self._rows[layer, name]

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
        kept = self._rows.get((layer, name))
        if kept is None:
            memories = self._memories[layer, name]
            return memories.rows_S, memories.counts
        if len(kept) == 1:
            return kept[0].read(), (kept[0].visible,)
        return torch.cat([rows.read() for rows in kept]), tuple(rows.visible for rows in kept)

    def replace(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...] | None = None) -> None:
        if counts is None:
            self._states[layer, name] = rows
        else:
            self._memories[layer, name].put(rows, counts)

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
            memories={place: memories.of(sequence) for place, memories in self._memories.items()},
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
        for place, rows_S in mark.memories.items():
            self._memories[place].set(sequence, rows_S)
        self._lengths[sequence] = mark.length
        self._cuts[sequence].append(mark.length)

    def select(self, sequences: Sequence[int]) -> None:
        """Makes sequence i what sequence `sequences[i]` was: beams are copied, moved and dropped by this.

        Marks from before are void, except of sequences that stay where they were.
        """
        for place, kept in self._rows.items():
            taken: set[int] = set()
            moved = []
            for one in sequences:
                moved.append(kept[one].copy() if one in taken else kept[one])
                taken.add(one)
            self._rows[place] = moved
        self._states = {place: state[list(sequences)] for place, state in self._states.items()}
        for memories in self._memories.values():
            memories.select(sequences)
        self._lengths = [self._lengths[one] for one in sequences]
        self._cuts = [list(self._cuts[one]) for one in sequences]

    def check(self) -> None:
        """Asserts the invariants: every stream has as many rows as its sequence's tokens ask for."""
        for place, kept in self._rows.items():
            stream = self._every[place]
            for length, rows in zip(self._lengths, kept, strict=True):
                assert rows.end == length // stream.every, f"{place}: {rows.end} rows for {length} tokens"
                rows.check()
        told = {memories.counts for memories in self._memories.values()}
        assert len(told) <= 1, f"memories of one sequence that differ in length: {told}"
        for place, memories in self._memories.items():
            assert memories.rows_S.shape[0] == sum(memories.counts), f"{place}: rows that belong to no sequence"
