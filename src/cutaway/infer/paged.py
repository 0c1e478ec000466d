"""The paged cache: what all sequences keep, in pages of tensors, and the view of it that one pass is given.

PagedAttention (Kwon et al. 2023, arXiv 2309.06180), section 4.1. The contiguous sibling is nn/cache.py.
A page holds, of every stream of its pool and in every layer, the rows that its tokens wrote: one a token, or one for
each `every` tokens, at the token that ends them. With C tokens a page and row r of a stream ending at token
t = (r + 1) every - 1, it lies in logical page t // C, at place r - (t // C) C // every.
N rows that a pass writes · S rows that it reads · P page · C place in a page.   Read next: infer/runner.py
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.block_tables import BlockTables, Copy, Keep
from cutaway.infer.scheduler import Limits
from cutaway.nn.context import Apart
from cutaway.nn.stream import Stream
from cutaway.ops.paged import Paged

Place = tuple[int, str]  # layer, stream name
Device = torch.device | str | None
STEPS = 2
"""Sequences that step together from which one call for all is worth its preparation."""


def keep(stream: Stream) -> Keep:
    """How long what a stream holds is kept, in tokens. Raises BadInput for a memory: no decoder has one."""
    if stream.per == "memory":
        raise BadInput("the engine serves decoders: there is no source to remember", field="Stream.per")
    if stream.per == "sequence":
        return Keep(whole=True)
    return Keep(last=None if stream.last is None else stream.last * stream.every, first=stream.first)


def sizes(keeps: Sequence[Keep], limits: Limits) -> list[int]:
    """Pages of each pool. Where nothing is left behind they hold `limits.tokens`; of windows and states, what so many
    sequences need at once, and as much again for beginnings that may be shared."""
    tokens, page, sequences = limits.tokens, limits.page, limits.sequences
    whole, counts = -(-tokens // page), []
    for one in keeps:
        if one.whole:
            counts.append(4 * sequences)
        elif one.last is None:
            counts.append(whole)
        else:
            running = sequences * one.room(tokens, 1 + limits.slack, page) + -(-limits.budget // page)
            counts.append(min(2 * running, whole + sequences))
    return counts


class PagedCache:
    """Tensors for the pages of all pools, sized by what the parts say that they keep (`streams`, of each layer)."""

    def __init__(
        self,
        streams: Sequence[tuple[Stream, ...]],
        limits: Limits,
        *,
        dtype: torch.dtype = torch.float32,
        device: Device = None,
    ):
        self.streams: dict[Place, Stream] = {
            (layer, stream.name): stream for layer, kept in enumerate(streams) for stream in kept
        }
        if len(self.streams) != sum(map(len, streams)):
            raise BadInput("a layer has two streams of one name", field="streams")
        # A model that keeps nothing at all still has sequences of some length.
        keeps = list(dict.fromkeys(map(keep, self.streams.values()))) or [Keep()]
        self.tables = BlockTables(keeps, sizes(keeps, limits), page=limits.page, slack=limits.slack)
        self.pool = {place: keeps.index(keep(stream)) for place, stream in self.streams.items()}
        self.pages: dict[Place, Tensor] = {}
        for place, stream in self.streams.items():
            rows = () if stream.per == "sequence" else (-(-limits.page // stream.every),)
            shape = (self.tables.pools[self.pool[place]].pages, *rows, *stream.shape)
            self.pages[place] = torch.zeros(shape, dtype=stream.held_in(dtype), device=device)
        self.device = device
        self._marks = 0
        self._left: deque[int] = deque()  # marks that nobody holds any more, not yet closed

    @property
    def bytes(self) -> int:
        """Bytes of all pages, held or not."""
        return sum(pages.numel() * pages.element_size() for pages in self.pages.values())

    def copy(self, copies: Sequence[Copy]) -> None:
        """Does what a plan says, in its order."""
        for one in copies:
            for place, pages in self.pages.items():
                if self.pool[place] == one.pool:
                    if one.source is None:
                        pages[one.target] = 0
                    else:
                        pages[one.target] = pages[one.source]

    def begin(self, owners: Sequence[int], counts: tuple[int, ...]) -> PagedView:
        """The view of a pass in which these sequences bring so many tokens; makes room for them."""
        self.let_go()
        for owner, count in zip(owners, counts, strict=True):
            self.copy(self.tables.reserve(owner, self.tables.length(owner) + count))
        return PagedView(self, owners, counts)

    def mark(self, owner: int) -> Mark:
        """Holds what a sequence holds now, for as long as the mark is there."""
        self.let_go()
        self._marks += 1
        mark = Mark(owner=-self._marks)
        self.tables.fork(owner, mark.owner)
        # Garbage may be collected amid a call of the tables, or in another thread: only a note is taken then.
        weakref.finalize(mark, self._left.append, mark.owner)
        return mark

    def let_go(self) -> None:
        """Closes the marks that nobody holds any more; every pass begins with that."""
        while self._left:
            self.tables.close(self._left.popleft())


@dataclass(frozen=True, kw_only=True, eq=False)
class Mark:
    """Where a sequence stood: a sequence of its own (of a number below 0) that holds the same pages."""

    owner: int


class PagedView:
    """What the sequences of one pass keep. Implements `nn.context.CacheView`.

    `counts`: tokens that each brings; room for them was reserved. Where rows lie is worked out once for all layers.
    """

    def __init__(self, cache: PagedCache, owners: Sequence[int], counts: tuple[int, ...]):
        cache.let_go()
        self.cache, self.tables, self.owners, self.counts = cache, cache.tables, tuple(owners), counts
        self._lengths = tuple(self.tables.length(owner) for owner in owners)
        self._written: dict[tuple[int, int], tuple[Tensor, tuple[int, ...]]] = {}
        self._read: dict[tuple[int, int, int | None, int], tuple[Tensor | slice, tuple[int, ...]]] = {}
        self._states: dict[int, Tensor] = {}
        self._tables: dict[int, Tensor] = {}
        self._placed: dict[tuple[int, int | None], Paged] = {}

    @property
    def lengths(self) -> tuple[int, ...]:
        return self._lengths

    def append(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...]) -> None:
        place = layer, name
        stream, pool = self.cache.streams[place], self.cache.pool[place]
        if (found := self._written.get((pool, stream.every))) is None:
            found = self._written[pool, stream.every] = self._slots(place, [[new] for new in self._new(stream.every)])
        slots_N, expected = found
        if counts != expected:
            raise BadInput(f"{counts} rows were given, the pass makes {expected}", field=name)
        pages = self.cache.pages[place]
        pages.flatten(0, 1).index_copy_(0, slots_N, rows.to(pages.dtype))

    def read(self, layer: int, name: str) -> tuple[Tensor, tuple[int, ...]]:
        place = layer, name
        stream, pool, pages = self.cache.streams[place], self.cache.pool[place], self.cache.pages[place]
        if stream.per == "sequence":
            return pages.index_select(0, self._state(pool)), (1,) * len(self.owners)
        key = pool, stream.every, stream.last, stream.first
        if (found := self._read.get(key)) is None:
            ends = [(length + count) // stream.every for length, count in zip(self._lengths, self.counts, strict=True)]
            spans = [_seen(stream, end, len(new)) for end, new in zip(ends, self._new(stream.every), strict=True)]
            slots_S, counts = self._slots(place, spans)
            found = self._read[key] = (_side_by_side(slots_S) or slots_S, counts)
        slots, counts = found
        rows = pages.flatten(0, 1)
        return rows[slots] if isinstance(slots, slice) else rows.index_select(0, slots), counts

    def where(self, layer: int, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """The same rows where they lie, as a paged kernel takes them (ops/paged.py): pages (P, C, ...), each sequence's
        table of them (B, M), 0 where one is not held, and the rows (B,) that it has. Of streams with a row a token."""
        place = layer, name
        if self.cache.streams[place].every != 1 or self.cache.streams[place].per != "token":
            raise BadInput("has no row for each token", field=name)
        pool = self.cache.pool[place]
        if pool not in self._tables:
            rows = [self.tables.rows(owner, pool) for owner in self.owners]
            table = np.zeros((len(rows), max(map(len, rows), default=0)), dtype=np.int64)
            for row, pages in zip(table, rows, strict=True):
                row[: len(pages)] = np.maximum(pages, 0)
            self._tables[pool] = torch.from_numpy(table).to(self.cache.device)
        ends = [length + count for length, count in zip(self._lengths, self.counts, strict=True)]
        return self.cache.pages[place], self._tables[pool], torch.tensor(ends, device=self.cache.device)

    def placed(self, layer: int, name: str, window: int | None) -> tuple[Tensor, Paged]:
        """The same for sequences that bring one token each, as `forms.attend_paged` takes it. `window`: what is seen of
        a stream; its last rows are held."""
        place = layer, name
        stream, pool = self.cache.streams[place], self.cache.pool[place]
        if (found := self._placed.get((pool, window))) is None:
            if stream.every != 1 or stream.per != "token" or any(count != 1 for count in self.counts):
                raise BadInput("has no row for each token, or a pass more than one query", field=name)
            found = self._placed[pool, window] = Paged(
                tables=tuple(np.array(self.tables.rows(owner, pool), dtype=np.int64) for owner in self.owners),
                lengths=tuple(length + 1 for length in self._lengths),
                page=self.tables.page,
                window=window,
                device=self.cache.device,
            )
        return self.cache.pages[place], found

    def apart(self) -> Apart | None:
        """Its first sequences, as far as they bring one token each, and the others; None where they are too few."""
        steps = next((at for at, count in enumerate(self.counts) if count != 1), len(self.counts))
        if steps < STEPS:
            return None
        first, others = (
            PagedView(self.cache, self.owners[run], self.counts[run]) for run in (slice(steps), slice(steps, None))
        )
        return Apart(steps=first, rest=others)

    def replace(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...] | None = None) -> None:
        place = layer, name
        pages = self.cache.pages[place]
        pages.index_copy_(0, self._state(self.cache.pool[place]), rows.to(pages.dtype))

    def advance(self, counts: tuple[int, ...]) -> None:
        for owner, count in zip(self.owners, counts, strict=True):
            self.tables.advance(owner, count)
        self._look()

    def truncate(self, sequence: int, length: int) -> None:
        self.tables.truncate(self.owners[sequence], length)
        self._look()

    def snapshot(self, sequence: int) -> Mark:
        return self.cache.mark(self.owners[sequence])

    def restore(self, sequence: int, mark: Mark) -> None:
        self.tables.close(self.owners[sequence])
        self.tables.fork(mark.owner, self.owners[sequence])
        self._look()

    def _look(self) -> None:
        """The pass is over: whoever goes on takes another view."""
        self._lengths = tuple(self.tables.length(owner) for owner in self.owners)

    def _new(self, every: int) -> list[range]:
        """The rows of each sequence that this pass writes."""
        pairs = zip(self._lengths, self.counts, strict=True)
        return [range(length // every, (length + count) // every) for length, count in pairs]

    def _state(self, pool: int) -> Tensor:
        if pool not in self._states:
            pages = [self.tables.rows(owner, pool)[0] for owner in self.owners]
            self._states[pool] = torch.tensor(pages, device=self.cache.device)
        return self._states[pool]

    def _slots(self, place: Place, spans: Sequence[Sequence[range]]) -> tuple[Tensor, tuple[int, ...]]:
        """Where rows lie among all places of all pages: those of each sequence, as spans, end to end."""
        every, page, pool = self.cache.streams[place].every, self.tables.page, self.cache.pool[place]
        slots = [np.empty(0, dtype=np.int64)]
        for owner, ranges in zip(self.owners, spans, strict=True):
            table = np.array(self.tables.rows(owner, pool), dtype=np.int64)
            for rows in ranges:
                row = np.arange(rows.start, rows.stop)
                number = ((row + 1) * every - 1) // page
                held = table[number]
                assert held.size == 0 or held.min() >= 0, "a row of a page that is gone"
                slots.append(held * -(-page // every) + row - number * page // every)
        counts = tuple(sum(map(len, ranges)) for ranges in spans)
        return torch.from_numpy(np.concatenate(slots)).to(self.cache.device), counts


def _side_by_side(slots_S: Tensor) -> slice | None:
    """All of the slots, where each is the one behind the last: such rows are read where they lie."""
    if slots_S.device.type != "cpu" or not len(slots_S):
        return None
    slots = slots_S.numpy()
    return slice(int(slots[0]), int(slots[-1]) + 1) if (np.diff(slots) == 1).all() else None


def _seen(stream: Stream, end: int, new: int) -> list[range]:
    """The rows of a sequence with `end` of them, `new` ones among them, that the pass may see."""
    if stream.last is None:
        return [range(end)]
    pinned = min(stream.first, end)
    # With `last` rows for the newest, the oldest of the new ones that roll sees last - 1 older ones.
    rolling = min(new, end - pinned)
    return [range(pinned), range(max(pinned, end - (stream.last - 1 + rolling)), end)]
