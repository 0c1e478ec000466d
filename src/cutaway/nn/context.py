"""What a forward pass is told, in one explicit argument: no globals, nothing set on a module from outside.

N tokens of all sequences, end to end · S keys.   Read next: nn/cache.py (what is kept), ops/forms.py (what runs)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.forms import FAST, Forms
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

    def replace(self, layer: int, name: str, rows: Tensor) -> None:
        """Puts a new state, one row per sequence, in the place of the old."""
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


@dataclass(frozen=True, kw_only=True)
class Context:
    """One forward pass over sequences laid end to end.

    `lengths`: tokens that each sequence brings (their sum is N). `prefix`: leading tokens of each that everyone may
    see. `prompts`: the prompt length of each, which dynamic NTK fixes its base at. `want`: internals to put in the
    report ("attention", "residual"). `narrow`: what parts compute in between the residual's sums, None for the
    residual's own dtype. `memo` holds what is computed once per pass; it is shared by all layers.
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
        return Context(
            lengths=self.lengths,
            positions_N=self.positions_N,
            cache=self.cache,
            forms=self.forms,
            layer=layer,
            causal=self.causal,
            prefix=self.prefix,
            prompts=self.prompts,
            want=self.want,
            narrow=self.narrow,
            memo=self.memo,
        )

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returns, computed at most once per pass: rotary tables, masks."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def visible(self, keys: tuple[int, ...], window: int | None = None) -> Visible:
        """What this pass's queries may see among the last `keys` tokens of each sequence."""
        held = self.cache.lengths if self.cache is not None else (0,) * len(self.lengths)
        dropped = None
        if self.prefix is not None:
            dropped = tuple(old + new - kept for old, new, kept in zip(held, self.lengths, keys, strict=True))
        return Visible(
            queries=self.lengths, keys=keys, causal=self.causal, window=window, prefix=self.prefix, dropped=dropped
        )

    def extend(self, *, window: int | None = None, **rows: Tensor) -> tuple[list[Tensor], Visible]:
        """Keeps one row per token in each named stream; returns all rows of each that may be seen, and the rule.

        Without a cache the rows come back as they are.
        """
        if self.cache is None:
            return list(rows.values()), self._rule(self.lengths, window)
        seen, counts = [], self.lengths
        for name, rows_N in rows.items():
            self.cache.append(self.layer, name, rows_N, self.lengths)
            rows_S, counts = self.cache.read(self.layer, name)
            seen.append(rows_S)
        return seen, self._rule(counts, window)

    def _rule(self, keys: tuple[int, ...], window: int | None) -> Visible:
        return self.once(("visible", keys, window), lambda: self.visible(keys, window))
