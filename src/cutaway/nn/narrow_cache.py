"""What a sequence keeps, in fewer bits than the model computes in: bfloat16, or 8 bits with a scale for each head.

As KV caches are kept by FlexGen (arXiv 2303.06865, section 6) and others in their ways. In 8 bits a row of K numbers,
a token's of one head, becomes K bytes and the two of its scale (ops/narrow_row.py). To the cache underneath it is a row
of K + 2 bytes, and all that it does with rows (windows, pages, sharing, copies) stays as it is; `streams` says so, and
bytes are counted by it.
What was kept is widened when it is read. States are kept as they are: they are written over and over.
N rows · K width of a head.   Read next: ops/narrow_row.py, nn/cache.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import CacheView
from cutaway.nn.stream import Stream
from cutaway.ops.narrow_row import SCALE, decode, encode

KEPT = {"int8": torch.int8, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
Streams = Sequence[tuple[Stream, ...]]


def narrow_streams(streams: Streams, kept: torch.dtype | None) -> tuple[tuple[Stream, ...], ...]:
    """Those of each layer as they are kept in `kept`; None leaves them alone."""
    return tuple(tuple(_narrowed(stream, kept) for stream in layer) for layer in streams)


def _narrowed(stream: Stream, kept: torch.dtype | None) -> Stream:
    if kept is None or stream.per == "sequence" or stream.dtype is not None or not stream.shape:
        return stream
    if kept != torch.int8:
        return replace(stream, dtype=kept)
    return replace(stream, shape=(*stream.shape[:-1], stream.shape[-1] + SCALE), dtype=kept)


class NarrowCache:
    """A view (contiguous or paged) of a cache that was made with `narrow_streams`, as parts see it. Implements
    `nn.context.CacheView`. `dtype`: what the model computes in."""

    def __init__(self, view: Any, streams: Streams, kept: torch.dtype, dtype: torch.dtype):
        self.view, self.kept, self.dtype = view, kept, dtype
        self._narrow = {
            (layer, stream.name)
            for layer, held in enumerate(streams)
            for stream in held
            if _narrowed(stream, kept) != stream
        }

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.view.lengths

    @property
    def bytes(self) -> int:
        """Bytes of all that is held."""
        return self.view.bytes

    def append(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...]) -> None:
        self.view.append(layer, name, self._kept(layer, name, rows), counts)

    def read(self, layer: int, name: str) -> tuple[Tensor, tuple[int, ...]]:
        rows, counts = self.view.read(layer, name)
        if (layer, name) not in self._narrow:
            return rows, counts
        return decode(rows, self.dtype) if self.kept == torch.int8 else rows.to(self.dtype), counts

    def replace(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...] | None = None) -> None:
        self.view.replace(layer, name, self._kept(layer, name, rows), counts)

    def advance(self, counts: tuple[int, ...]) -> None:
        self.view.advance(counts)

    def truncate(self, sequence: int, length: int) -> None:
        self.view.truncate(sequence, length)

    def snapshot(self, sequence: int) -> Any:
        return self.view.snapshot(sequence)

    def restore(self, sequence: int, mark: Any) -> None:
        self.view.restore(sequence, mark)

    def select(self, sequences: Sequence[int]) -> None:
        """As of `ContiguousCache`, which alone has it."""
        self.view.select(sequences)

    def check(self) -> None:
        """Asserts the invariants of what is underneath."""
        self.view.check()

    def _kept(self, layer: int, name: str, rows: Tensor) -> Tensor:
        return encode(rows) if self.kept == torch.int8 and (layer, name) in self._narrow else rows


def contiguous(
    streams: Streams, kept: torch.dtype | None, *, dtype: torch.dtype, **told: Any
) -> ContiguousCache | NarrowCache:
    """A contiguous cache that keeps rows in `kept` (None: as the model computes). `told`: as of `ContiguousCache`."""
    cache = ContiguousCache(narrow_streams(streams, kept), dtype=dtype, **told)
    return cache if kept is None else NarrowCache(cache, streams, kept, dtype)


def seen_through(view: CacheView, streams: Streams, kept: torch.dtype | None, dtype: torch.dtype) -> CacheView:
    """A view of pages that were made with `narrow_streams`, as parts see it."""
    return view if kept is None else NarrowCache(view, streams, kept, dtype)


def kept_named(name: str | None) -> torch.dtype | None:
    """By its name; None is what the model computes in. Raises BadInput."""
    if name is not None and name not in KEPT:
        raise BadInput(f'cannot be kept in "{name}" (known: {", ".join(KEPT)})', field="cache")
    return None if name is None else KEPT[name]
