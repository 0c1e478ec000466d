"""Checks of attention over pages: loops over tokens in float64, whatever else lies in the pool, and half precision.

An implementation has the signature of `ops.paged.attend_paged_readable`.
B sequence · H query head · G kv head · K head dim · P page of the pool · C place in a page · M place in a page table
Read next: ops/paged.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.lab.checks.parity import Implementation, expect, expect_close

NOWHERE = 1_000_000  # a page that no pool has: what a table holds beyond a sequence's pages


@dataclass(frozen=True, kw_only=True)
class Case:
    """Some sequences' lengths, and the shapes of heads and pages."""

    lengths: tuple[int, ...]
    page: int
    heads: int = 4
    groups: int = 2
    width: int = 3
    value_width: int = 3
    scale: float = 0.7
    softcap: float | None = None
    window: int | None = None


CASES = (
    Case(lengths=(1,), page=1, heads=1, groups=1),
    Case(lengths=(4, 8, 7), page=4),
    Case(lengths=(5, 1, 9, 2), page=4, heads=6),
    Case(lengths=(3, 0, 6), page=5, heads=3, groups=3),
    Case(lengths=(17, 33), page=16, groups=1, width=5, value_width=2),
    Case(lengths=(9, 4), page=3, window=4),
    Case(lengths=(12, 11), page=4, window=4),
    Case(lengths=(7,), page=2, window=1),
    Case(lengths=(6, 10), page=4, softcap=1.5),
    Case(lengths=(21, 2), page=20, window=30, softcap=0.5),
)


def paged_oracle(
    q_BHK: Tensor, keys_PCGK: Tensor, values_PCGK: Tensor, table_BM: Tensor, lengths_B: Tensor, case: Case
) -> Tensor:
    """One sequence, head and token at a time."""
    page, sharing = keys_PCGK.shape[1], q_BHK.shape[1] // keys_PCGK.shape[2]
    y_BHV = q_BHK.new_zeros(*q_BHK.shape[:2], values_PCGK.shape[3])
    for b, length in enumerate(lengths_B.tolist()):
        first = 0 if case.window is None else max(0, length - case.window)
        for h in range(q_BHK.shape[1]):
            scores, values = [], []
            for s in range(first, length):
                place = int(table_BM[b, s // page]), s % page, h // sharing
                score = case.scale * sum(float(q_BHK[b, h, i] * keys_PCGK[place][i]) for i in range(q_BHK.shape[2]))
                scores.append(score if case.softcap is None else case.softcap * math.tanh(score / case.softcap))
                values.append(values_PCGK[place])
            total = sum(math.exp(score - max(scores)) for score in scores)
            for score, value in zip(scores, values, strict=True):
                y_BHV[b, h] += math.exp(score - max(scores)) / total * value
    return y_BHV


def check_paged(implementation: Implementation, cases: tuple[Case, ...] = CASES) -> None:
    """Raises AssertionError, naming the case, where it differs from the loops."""
    for case in cases:
        given = inputs(case)
        told = {"scale": case.scale, "softcap": case.softcap, "window": case.window}
        expected = paged_oracle(*given, case)
        # Float64 sums of a few dozen terms in another order: some units in the 16th digit.
        expect_close(f"{case}: output", implementation(*given, **told), expected, 1e-10)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            q, keys, values = (tensor.to(dtype) for tensor in given[:3])
            y_BHV = implementation(q, keys, values, *given[3:], **told)
            expect(y_BHV.dtype == dtype, f"gave {y_BHV.dtype} for {dtype}")
            exact = paged_oracle(q.double(), keys.double(), values.double(), *given[3:], case)
            # Values of a few units, weights that sum to 1; weights and output are rounded by half a step each.
            bound = 16 * torch.finfo(dtype).eps
            expect_close(f"{case}: output in {dtype}", y_BHV.double(), exact, bound)


def inputs(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Pages dealt out at random; what no sequence may read is NaN, and pages that are not needed do not exist."""
    make = torch.Generator().manual_seed(sum(case.lengths))
    counts = [-(-length // case.page) for length in case.lengths]
    order = torch.randperm(sum(counts) + 2, generator=make)
    shape = (len(order), case.page, case.groups)
    keys = torch.full((*shape, case.width), math.nan, dtype=torch.float64)
    values = torch.full((*shape, case.value_width), math.nan, dtype=torch.float64)
    table = torch.full((len(counts), max(counts) + 1), NOWHERE, dtype=torch.int32)
    first = 0
    for b, (count, length) in enumerate(zip(counts, case.lengths, strict=True)):
        table[b, :count] = order[first : first + count]
        for s in range(length):
            place = int(table[b, s // case.page]), s % case.page
            keys[place] = torch.randn(case.groups, case.width, generator=make, dtype=torch.float64)
            values[place] = torch.randn(case.groups, case.value_width, generator=make, dtype=torch.float64)
        first += count
    q = torch.randn(len(counts), case.heads, case.width, generator=make, dtype=torch.float64)
    return q, keys, values, table, torch.tensor(case.lengths, dtype=torch.int32)
