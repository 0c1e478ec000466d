"""What a forward pass is told, in one explicit argument: no globals, nothing set on a module from outside.

N tokens of all sequences, end to end · S keys.   Read next: nn/cache.py (what is kept), ops/forms.py (what runs)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.attend import Bias
from cutaway.ops.forms import FAST, Forms
from cutaway.ops.paged import Paged
from cutaway.ops.visible import Visible

Made = TypeVar("Made")


class CacheView(Protocol):
    """What the sequences of a forward pass keep, by layer and stream name. `nn.cache` and the engine implement it.

    Within a forward pass each layer appends or replaces, then reads; `advance` ends the pass. Rows of all sequences
    lie end to end; counts say how many belong to each.
    """

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens that each sequence held before this pass."""
        ...

    def append(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...]) -> None:
        """Adds rows to a token stream; `counts` per sequence."""
        ...

    def read(self, layer: int, name: str) -> tuple[Tensor, tuple[int, ...]]:
        """All rows that may be seen, those of this pass included; a state is one row per sequence."""
        ...

    def replace(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...] | None = None) -> None:
        """Puts a new state, one row per sequence, in the place of the old. Of a memory, `counts` rows per sequence; a
        sequence that gets none keeps what it has."""
        ...

    def advance(self, counts: tuple[int, ...]) -> None:
        """Ends a pass in which each sequence took in so many tokens."""
        ...

    def truncate(self, sequence: int, length: int) -> None:
        """Forgets all tokens of a sequence from `length` on."""
        ...

    def snapshot(self, sequence: int) -> Any:
        """A mark to which `restore` can return, also where `truncate` cannot (states)."""
        ...

    def restore(self, sequence: int, mark: Any) -> None:
        """Makes a sequence what it was at the mark."""
        ...


class PagesView(CacheView, Protocol):
    """A view of sequences that bring one token each, and whose rows lie in pages."""

    def placed(self, layer: int, name: str, window: int | None) -> tuple[Tensor, Paged]:
        """The pages of a stream, and where in them each sequence's rows lie, those of this pass included."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Apart:
    """A pass's first sequences, and the others."""

    steps: PagesView
    rest: CacheView


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """What an encoder made of the sources, end to end. `lengths`: rows for each sequence of the pass; 0 where the cache
    already holds that sequence's memory."""

    x_SD: Tensor
    lengths: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Context:
    """One forward pass over sequences laid end to end.

    `lengths`: tokens that each sequence brings (their sum is N). `prefix`: leading tokens of each that everyone may
    see. `prompts`: the prompt length of each, which dynamic NTK fixes its base at. `want`: internals to put in the
    report ("attention", "residual"). `narrow`: what parts compute in between the residual's sums, None for the
    residual's own dtype. `memory`: what cross-attention reads, where this pass brings it (later ones find its keys and
    values in the cache). `bias`: what self-attention adds to its scores, for a rule of what is seen. `apart`: the cache
    of the first sequences, where they bring one token each and lie in pages, and that of the others: who can attend to
    pages where they lie does so. `memo` holds what is computed once per pass; it is shared by all layers.
    """

    lengths: tuple[int, ...]
    positions_N: Tensor
    cache: CacheView | None = None
    forms: Forms = FAST
    layer: int = 0
    causal: bool = True
    prefix: tuple[int, ...] | None = None
    prompts: tuple[int, ...] | None = None
    want: frozenset[str] = frozenset()
    narrow: torch.dtype | None = None
    memory: Memory | None = None
    bias: Callable[[Visible], Bias] | None = None
    apart: Apart | None = None
    memo: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls, lengths: tuple[int, ...], *, cache: CacheView | None = None, device: Any = None, **told: Any
    ) -> Context:
        """A pass in which each sequence brings so many tokens, behind what the cache holds of it already."""
        starts = cache.lengths if cache is not None else (0,) * len(lengths)
        if len(starts) != len(lengths):
            raise BadInput(f"the cache holds {len(starts)} sequences, {len(lengths)} were given", field="lengths")
        spans = [
            torch.arange(start, start + count, device=device) for start, count in zip(starts, lengths, strict=True)
        ]
        positions_N = spans[0] if len(spans) == 1 else torch.cat(spans) if spans else torch.arange(0, device=device)
        return cls(lengths=lengths, positions_N=positions_N, cache=cache, **told)

    def at(self, layer: int) -> Context:
        """The same pass, seen from one layer."""
        seen = object.__new__(Context)  # nothing is to be checked: a third of the time of a call with all fields
        seen.__dict__.update(self.__dict__, layer=layer)
        return seen

    def rest(self) -> Context:
        """The same pass for the sequences that `apart` sets behind the first."""
        return self.once("rest", self._rest).at(self.layer)

    def _rest(self) -> Context:
        assert self.apart is not None
        first = len(self.apart.steps.lengths)
        told = {"cache": self.apart.rest, "apart": None, "memo": {}, "lengths": self.lengths[first:]}
        told |= {"positions_N": self.positions_N[first:], "prompts": self.prompts and self.prompts[first:]}
        return replace(self, **told)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returns, computed at most once per pass: rotary tables, masks."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def visible(self, keys: tuple[int, ...], window: int | None = None, sinks: int = 0) -> Visible:
        """What this pass's queries may see among the last `keys` tokens of each sequence (and its first, the sinks)."""
        held = self.cache.lengths if self.cache is not None else (0,) * len(self.lengths)
        dropped = None
        if self.prefix is not None:
            self._refuse_part_of_a_prefix(held)
            dropped = tuple(old + new - kept for old, new, kept in zip(held, self.lengths, keys, strict=True))
        return Visible(
            queries=self.lengths,
            keys=keys,
            causal=self.causal,
            window=window,
            prefix=self.prefix,
            dropped=dropped,
            sinks=sinks,
        )

    def _refuse_part_of_a_prefix(self, held: tuple[int, ...]) -> None:
        """A prefix that comes in pieces would be seen by its first ones in part, and stay so in the cache."""
        assert self.prefix is not None
        if len(self.prefix) != len(self.lengths):
            raise BadInput(f"{len(self.lengths)} sequences, {len(self.prefix)} prefixes", field="Context.prefix")
        for old, new, prefix in zip(held, self.lengths, self.prefix, strict=True):
            if self.cache is not None and new and old < prefix and (old or new < prefix):
                raise BadInput(f"the {prefix} tokens of a prefix must come in one pass", field="Context.prefix")

    def extend(self, *, window: int | None = None, sinks: int = 0, **rows: Tensor) -> tuple[list[Tensor], Visible]:
        """Keeps one row per token in each named stream; returns all rows of each that may be seen, and the rule.

        Without a cache the rows come back as they are.
        """
        if self.cache is None:
            return list(rows.values()), self._rule(self.lengths, window, sinks)
        seen, counts = [], self.lengths
        for name, rows_N in rows.items():
            self.cache.append(self.layer, name, rows_N, self.lengths)
            rows_S, counts = self.cache.read(self.layer, name)
            seen.append(rows_S)
        return seen, self._rule(counts, window, sinks)

    def recall(self, names: Sequence[str], rows: Sequence[Tensor] = ()) -> tuple[list[Tensor], Visible]:
        """The named streams' rows of each sequence's memory, and the rule: all of it is seen. `rows`: those that this
        pass brings, one per row of `memory`; they are kept."""
        brought = self.memory.lengths if self.memory is not None else (0,) * len(self.lengths)
        if self.cache is None:
            if not rows:
                raise BadInput("this pass has no memory to read, and no cache that holds one", field="Context.memory")
            return list(rows), self.everything(brought)
        seen, counts = [], brought
        for name, rows_S in zip(names, rows, strict=bool(rows)):
            self.cache.replace(self.layer, name, rows_S, brought)
        for name in names:
            rows_S, counts = self.cache.read(self.layer, name)
            seen.append(rows_S)
        return seen, self.everything(counts)

    def everything(self, keys: tuple[int, ...]) -> Visible:
        """The rule under which this pass's queries see all of so many keys, those of other sequences."""
        return self.once(("everything", keys), lambda: self._everything(keys))

    def _everything(self, keys: tuple[int, ...]) -> Visible:
        missing = len(keys) != len(self.lengths) or any(
            new and not held for new, held in zip(self.lengths, keys, strict=True)
        )
        if missing:
            raise BadInput(f"{len(self.lengths)} sequences, memories of {keys} tokens", field="Context.memory")
        return Visible(queries=self.lengths, keys=keys, causal=False)

    def _rule(self, keys: tuple[int, ...], window: int | None, sinks: int) -> Visible:
        return self.once(("visible", keys, window, sinks), lambda: self.visible(keys, window, sinks))
