"""Attention of one new query per sequence over keys and values that lie in pages, scattered through a pool.

Kwon et al. 2023 (arXiv 2309.06180), section 4.1.   Token s of sequence b is row s % C of page table_BM[b, s // C].
Whoever serves many requests at once keeps keys and values so: a request takes a page when it needs one and gives it
back when it ends, and requests that begin alike share pages. The readable form gathers a sequence's pages into rows and
attends as always; the gathered one copies whole pages of all sequences into rectangles, one call each; the paged kernel
of ops/triton/paged.py reads them where they lie.
B sequence · H query head · G kv head · K head dim · P page of the pool · C place in a page · M place in a page table
S place in a rectangle · b sequences of one rectangle
Read next: ops/attend.py, ops/triton/paged.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.attend import attend_readable
from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True, eq=False)
class Rectangle:
    """Sequences of nearly one length. `sequences`: which; `pages`: their pages, b times equally many, end to end;
    `hidden_b11S`: minus infinity where nothing is seen; `stale`: places that hold what may be no number at all."""

    sequences: Tensor
    pages: Tensor
    hidden_b11S: Tensor
    stale: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Paged:
    """Where the rows of B sequences lie, each of which brings one query: told once for all layers of a pass.

    `tables`: the pages of each in order, at least as many as its length needs; `lengths`: tokens of each, the query's
    own included; `page`: tokens of a page; `window`: how many of the last are seen (None: all).
    """

    tables: tuple[np.ndarray, ...]
    lengths: tuple[int, ...]
    page: int
    window: int | None = None
    device: torch.device | str | None = None

    @cached_property
    def rectangles(self) -> tuple[Rectangle, ...]:
        """All sequences that have tokens, in rectangles of which at least half is seen, or lies in pages that are."""
        ends = [-(-length // self.page) for length in self.lengths]
        counts = [end - self._first(length) for end, length in zip(ends, self.lengths, strict=True)]
        order = sorted((b for b, count in enumerate(counts) if count), key=lambda b: -counts[b])
        groups: list[list[int]] = []
        for b in order:
            if groups and 2 * counts[b] >= counts[groups[-1][0]]:
                groups[-1].append(b)
            else:
                groups.append([b])
        return tuple(self._rectangle(sorted(group), counts) for group in groups)

    def _first(self, length: int) -> int:
        """The first page of which something is seen."""
        return 0 if self.window is None else max(0, length - self.window) // self.page

    def _rectangle(self, group: list[int], counts: list[int]) -> Rectangle:
        width = max(counts[b] for b in group)
        column = np.arange(width)
        firsts = np.array([[self._first(self.lengths[b])] for b in group])
        # Where a sequence has fewer pages, its first one stands again.
        numbers_bM = firsts + np.where(column < np.array([[counts[b]] for b in group]), column, 0)
        pages = np.stack([self.tables[b][numbers] for b, numbers in zip(group, numbers_bM, strict=True)])
        lengths_b11 = np.array([self.lengths[b] for b in group])[:, None, None]
        within = np.arange(self.page)
        stale_bMC = numbers_bM[:, :, None] * self.page + within >= lengths_b11
        place_bMC = (firsts + column)[:, :, None] * self.page + within
        hidden_bMC = place_bMC >= lengths_b11
        if self.window is not None:
            hidden_bMC |= place_bMC < lengths_b11 - self.window
        hidden_b11S = torch.from_numpy(hidden_bMC.reshape(len(group), 1, 1, -1))
        return Rectangle(
            sequences=torch.tensor(group, device=self.device),
            pages=torch.from_numpy(pages.ravel()).to(self.device),
            hidden_b11S=torch.zeros(hidden_b11S.shape).masked_fill_(hidden_b11S, -torch.inf).to(self.device),
            stale=torch.from_numpy(np.flatnonzero(stale_bMC)).to(self.device),
        )


def attend_paged_gathered(
    q_BHK: Tensor,
    keys_PCGK: Tensor,
    values_PCGK: Tensor,
    paged: Paged,
    *,
    scale: float,
    softcap: float | None = None,
) -> Tensor:
    """y (B, H, width of values), as `attend_paged_readable`, on torch's fused attention: sequences of nearly one length
    as one rectangle, the heads that share a key head as its queries. A soft cap has no fused form: the readable one
    answers."""
    if softcap is not None:
        return attend_paged_plainly(q_BHK, keys_PCGK, values_PCGK, paged, scale=scale, softcap=softcap)
    if len(paged.rectangles) == 1 and len(paged.rectangles[0].sequences) == len(q_BHK):
        return _attend_rectangle(q_BHK, keys_PCGK, values_PCGK, paged.rectangles[0], scale)
    y_BHK = q_BHK.new_zeros(*q_BHK.shape[:2], values_PCGK.shape[3])
    for one in paged.rectangles:
        y_bHK = _attend_rectangle(q_BHK[one.sequences], keys_PCGK, values_PCGK, one, scale)
        y_BHK.index_copy_(0, one.sequences, y_bHK)
    return y_BHK


def _attend_rectangle(q_bHK: Tensor, keys_PCGK: Tensor, values_PCGK: Tensor, one: Rectangle, scale: float) -> Tensor:
    count, groups = len(q_bHK), keys_PCGK.shape[2]
    rows = []
    for pages_PCGK in (keys_PCGK, values_PCGK):
        rows_xGK = pages_PCGK.index_select(0, one.pages).flatten(0, 1)
        # Whoever had the page before may have left NaN there, and nothing times NaN is NaN.
        rows_xGK.index_fill_(0, one.stale, 0)
        rows.append(rows_xGK.unflatten(0, (count, -1)).transpose(1, 2))
    y_bGRK = F.scaled_dot_product_attention(
        q_bHK.unflatten(1, (groups, -1)), *rows, attn_mask=one.hidden_b11S.to(q_bHK.dtype), scale=scale
    )
    return y_bGRK.flatten(1, 2)


def attend_paged_plainly(
    q_BHK: Tensor, keys_PCGK: Tensor, values_PCGK: Tensor, paged: Paged, *, scale: float, softcap: float | None = None
) -> Tensor:
    """The readable form below, told as the gathered one is."""
    table_BM = np.zeros((len(paged.tables), max(map(len, paged.tables), default=0)), dtype=np.int64)
    for row, pages in zip(table_BM, paged.tables, strict=True):
        row[: len(pages)] = pages
    return attend_paged_readable(
        q_BHK,
        keys_PCGK,
        values_PCGK,
        torch.from_numpy(table_BM).to(q_BHK.device),
        torch.tensor(paged.lengths, device=q_BHK.device),
        scale=scale,
        softcap=softcap,
        window=paged.window,
    )


def attend_paged_readable(
    q_BHK: Tensor,
    keys_PCGK: Tensor,
    values_PCGK: Tensor,
    table_BM: Tensor,
    lengths_B: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    window: int | None = None,
) -> Tensor:
    """y (B, H, width of values): each query sees the last `window` tokens of its sequence, or all, itself included.

    `table_BM`: the pages of each sequence in order, int; entries beyond its length are never read and may be anything.
    `lengths_B`: tokens of each sequence, int, the query's own (whose key and value are in the pool already) included; a
    sequence of none gets zeros. Raises BadInput for a length that its table cannot hold.
    """
    refuse_short(keys_PCGK, table_BM, lengths_B)
    rows = []
    for q_HK, pages_M, length in zip(q_BHK, table_BM, lengths_B.tolist(), strict=True):
        if not length:
            rows.append(q_HK.new_zeros(q_HK.shape[0], values_PCGK.shape[3]))
            continue
        pages_M = pages_M[: -(-length // keys_PCGK.shape[1])].long()
        k_SGK, v_SGK = keys_PCGK[pages_M].flatten(0, 1)[:length], values_PCGK[pages_M].flatten(0, 1)[:length]
        see = Visible(queries=(1,), keys=(length,), window=window)
        rows.append(attend_readable(q_HK[None], k_SGK, v_SGK, see, scale=scale, softcap=softcap)[0])
    return torch.stack(rows) if rows else q_BHK.new_zeros(0, q_BHK.shape[1], values_PCGK.shape[3])


def refuse_short(keys_PCGK: Tensor, table_BM: Tensor, lengths_B: Tensor) -> None:
    """Raises BadInput where a sequence is longer than the pages of its table."""
    room = keys_PCGK.shape[1] * table_BM.shape[1]
    if len(lengths_B) and int(lengths_B.max()) > room:
        raise BadInput(f"a sequence has {int(lengths_B.max())} tokens, its pages hold {room}", field="lengths_B")
