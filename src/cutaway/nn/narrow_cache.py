"""What a sequence keeps, in fewer bits than the model computes in: bfloat16, or 8 bits with a scale for each head.

LLM.int8()'s absmax (arXiv 2208.07339, section 2.1), for each token and head by itself, as KV caches are kept by
FlexGen (arXiv 2303.06865, section 6) and others in their ways:   s = max |k| / 127,   k' = s round(k / s)
A row of K numbers becomes K bytes and the two of s, which is fp16 and rounded up, so that no number is cut off:
each comes back within half a step s / 2. To the cache underneath it is a row of K + 2 bytes, and all that it does with
rows (windows, pages, sharing, copies) stays as it is; `streams` says so, and bytes are counted by it.
What was kept is widened when it is read. States are kept as they are: they are written over and over.
N rows · K width of a head.   Read next: nn/cache.py, infer/paged.py
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
from cutaway.ops.blocks.absmax import half_above, steps

KEPT = {"int8": torch.int8, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
SCALE = 2  # bytes behind the K of a row
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


def encode(rows: Tensor) -> Tensor:
    """Rows (..., K) -> int8 (..., K + 2). What is not finite comes back as what is not."""
    scale = half_above(rows.float().abs().amax(-1, keepdim=True) / 127)
    q = steps(rows.float(), scale.float()).to(torch.int8)
    return torch.cat((q, scale.view(torch.int8)), dim=-1)


def decode(kept: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """int8 (..., K + 2) -> rows (..., K)."""
    # A copy in any case: two bytes are seen as one number only where they begin at an even place.
    scale = kept[..., -SCALE:].clone(memory_format=torch.contiguous_format).view(torch.float16)
    return kept[..., :-SCALE].to(dtype).mul_(scale.to(dtype))


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
