"""What each query may see: a small value, and a tensor only when a slow form asks for one.

Sequences of any length lie end to end. The queries of a sequence are the last of its keys: with S keys and T queries,
query t stands at key S - T + t. So a cached step (one query, many keys) and a full pass (as many of each) are one rule.
Where everything is seen (`causal=False`, no window) the keys may be another sequence's, of any number: an encoder's.
T query position · S key position · N queries of all sequences.   Read next: ops/attend.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cutaway.base.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Visible:
    """Query t sees key s if `s <= t` (causal) or both lie in the prefix, and s is less than `window` away.

    `queries`, `keys`: how many of each, for each sequence. `prefix`: how many leading tokens of each sequence everyone
    may see (prefix-LM); `dropped`: how many older keys of each sequence are no longer held (a window's), which the
    prefix must count. `window` counts the query's own position: window=1 sees only itself. `sinks`: so many first keys
    of each sequence are seen from beyond the window too; keys that are no longer held are missing behind them.
    """

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    causal: bool = True
    window: int | None = None
    prefix: tuple[int, ...] | None = None
    dropped: tuple[int, ...] | None = None
    sinks: int = 0

    def __post_init__(self) -> None:
        if len(self.queries) != len(self.keys):
            raise BadInput(f"{len(self.queries)} sequences of queries, {len(self.keys)} of keys", field="Visible.keys")
        aligned = self.causal or self.window is not None
        if aligned and any(queries > keys for queries, keys in zip(self.queries, self.keys, strict=True)):
            raise BadInput("a sequence has more queries than keys", field="Visible.queries")
        if self.window is not None and self.window < 1:
            raise BadInput(f"must be at least 1, is {self.window}", field="Visible.window")
        if self.sinks and (self.window is None or self.sinks < 0 or not self.causal or self.prefix is not None):
            raise BadInput("go with a causal window and without a prefix", field="Visible.sinks")

    @cached_property
    def step(self) -> bool:
        """Whether it is one query of one sequence, which sees all keys: a decoder's step. All layers ask."""
        return self.queries == (1,) and self.everything(0)

    def held(self, index: int) -> int:
        """Keys of this sequence's prefix that are still held."""
        if self.prefix is None:
            return 0
        return max(0, self.prefix[index] - (self.dropped[index] if self.dropped else 0))

    def everything(self, index: int) -> bool:
        """Whether every query of this sequence sees every key: then no mask is needed."""
        queries, keys = self.queries[index], self.keys[index]
        widely = queries == 1 or not self.causal or self.held(index) >= keys
        return widely and (self.window is None or keys <= self.window + self.sinks)

    def plain_causal(self, index: int) -> bool:
        """Whether this sequence is the plain triangle: as many queries as keys, no window in reach, and no prefix (of
        one token there is none: all see it anyway)."""
        queries, keys = self.queries[index], self.keys[index]
        narrow = self.causal and self.held(index) <= 1
        return narrow and queries == keys and (self.window is None or keys <= self.window + self.sinks)

    def reach(self, index: int, queries: range) -> tuple[range, ...]:
        """The keys that some of these queries may see, as ranges from left to right: what lies in none of them can be
        left unread. At most two: the sinks, and what causality, prefix and window leave."""
        keys = self.keys[index]
        first, last = (keys - self.queries[index] + t for t in (queries.start, queries.stop - 1))
        end = max(last + 1, self.held(index)) if self.causal else keys
        if self.window is None:
            return (range(min(end, keys)),)
        near = range(max(0, first - self.window + 1), min(end, keys, last + self.window))
        sinks = range(min(self.sinks, end, near.start))
        return (sinks, near) if sinks else (near,)

    def reached(self, index: int, keys: range) -> range:
        """The queries that may see some of these keys, the other way round; in between may be some that see none."""
        queries, offset = self.queries[index], self.keys[index] - self.queries[index]
        first, last = 0, queries
        if self.causal and keys.start >= self.held(index):
            first = keys.start - offset
        if self.window is not None:
            first = max(first, keys.start - self.window + 1 - offset)
            if keys.start >= self.sinks:
                last = min(last, keys.stop - 1 + self.window - offset)
        return range(max(0, first), max(0, first, last))

    def mask(self, index: int, device: torch.device | str | None = None) -> Tensor:
        """The rule of one sequence as a boolean tensor (T, S), True where seen."""
        return self.tile(index, range(self.queries[index]), range(self.keys[index]), device)

    def tile(self, index: int, queries: range, keys: range, device: torch.device | str | None = None) -> Tensor:
        """The part of a sequence's mask that is of these queries and keys."""
        key_S = torch.arange(keys.start, keys.stop, device=device)
        offset = self.keys[index] - self.queries[index]
        query_T1 = torch.arange(offset + queries.start, offset + queries.stop, device=device)[:, None]
        if self.causal:
            seen_TS = key_S <= query_T1
        else:
            seen_TS = torch.ones(len(queries), len(keys), dtype=torch.bool, device=device)
        if self.prefix is not None:
            seen_TS = seen_TS | (key_S < self.held(index))
        if self.window is not None:
            seen_TS = seen_TS & (((query_T1 - key_S).abs() < self.window) | (key_S < self.sinks))
        return seen_TS
