"""Which sign of NSA's equation 9 is right depends on how blocks are counted: all of them against brute force.

Yuan et al. 2025 (arXiv 2502.11089). A selectable block's importance sums p[(l'/d) j +- m +- n] over 0 <= m < l'/d and
0 <= n < l/d; the paper was first printed with +m+n, then with -m-n, and does not say from where p is indexed. Where
blocks are counted from 0 by where they begin (as equations 7 and 12 write them), it takes +m-n.
Read next: nn/attention/selection.py, lab/checks/native_sparse.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cutaway.lab.card import Card, Finding, Near
from cutaway.lab.checks.native_sparse import shared

Reading = Callable[[int, int, int], int]  # (l'/d) j, m, n -> the number of a compressed block

READINGS: dict[str, Reading] = {
    "first reading, +m+n": lambda start, m, n: start + m + n,
    "second reading, -m-n": lambda start, m, n: start - m - n,
    "ours, +m-n": lambda start, m, n: start + m - n,
}
OVERLAPPING = ((32, 16, 64), (48, 16, 64), (4, 1, 8), (8, 4, 12), (3, 1, 5))  # (l, d, l'): d < l < l'
ALIKE = ((32, 16, 32), (64, 16, 64), (6, 2, 6))  # d < l = l'
APART = ((16, 16, 64), (2, 2, 6), (1, 1, 4))  # l = d: compressed blocks that do not overlap
BLOCKS = 6  # selectable ones in the sequence that is looked at, first and last included


@dataclass(frozen=True, kw_only=True)
class Counting:
    """How blocks are counted. `base`: the number of the first. `ends`: a compressed block has the number of the stride
    that it ends with, not of the one that it begins with. Selectable blocks lie side by side, each beginning where the
    last one ends: the block numbered j is the same by both."""

    base: int
    ends: bool

    @property
    def written(self) -> str:
        return f"counted from {self.base} by where blocks {'end' if self.ends else 'begin'}"

    def compressed(self, number: int, block: int, stride: int) -> range:
        """The tokens, from 0, of the compressed block of this number."""
        begin = (number - self.base) * stride
        if self.ends:
            begin += stride - block
        return range(begin, begin + block)

    def selectable(self, number: int, select: int) -> range:
        return range((number - self.base) * select, (number - self.base + 1) * select)


COUNTINGS = tuple(Counting(base=base, ends=ends) for base in (0, 1) for ends in (False, True))
RIGHT = {
    ("first reading, +m+n", Counting(base=0, ends=True)),
    ("second reading, -m-n", Counting(base=1, ends=False)),
    ("ours, +m-n", Counting(base=0, ends=False)),
}


def right(reading: Reading, counting: Counting, block: int, stride: int, select: int) -> bool:
    """Whether, for every selectable block of a sequence, a reading finds the compressed blocks of the sequence that
    share tokens with it and no others, each as often as they share strides. By counting tokens."""
    last = BLOCKS * select
    numbers = [
        number
        for number in range(-last, 2 * last)
        if counting.compressed(number, block, stride)[0] >= 0 and counting.compressed(number, block, stride)[-1] < last
    ]
    for j in range(counting.base, counting.base + BLOCKS):
        tokens = counting.selectable(j, select)
        meets = {i: shared(counting.compressed(i, block, stride), tokens) // stride for i in numbers}
        start = select // stride * j
        found = Counter(reading(start, m, n) for m in range(select // stride) for n in range(block // stride))
        if any(found[i] != strides for i, strides in meets.items()):
            return False
    return True


def _share(reading: Reading, counting: Counting, sizes: tuple[tuple[int, int, int], ...]) -> float:
    return sum(right(reading, counting, *one) for one in sizes) / len(sizes)


def _compute() -> tuple[Finding, ...]:
    findings = []
    for name, reading in READINGS.items():
        for counting in COUNTINGS:
            ours = _share(reading, counting, OVERLAPPING)
            expected = Near(value=float((name, counting) in RIGHT))
            findings.append(Finding(what=f"{name}, {counting.written}", expected=expected, ours=ours))
    findings.sort(key=lambda one: -one.ours)  # what is right stands first
    for name, base in (("first reading, +m+n", 0), ("second reading, -m-n", 1), ("ours, +m-n", 0)):
        both = min(_share(READINGS[name], one, APART) for one in COUNTINGS if one.base == base)
        what = f"{name}, counted from {base} by either, where compressed blocks do not overlap"
        findings.append(Finding(what=what, expected=Near(value=1), ours=both))
    by_end = _share(READINGS["ours, +m-n"], Counting(base=1, ends=True), ALIKE)
    what = "ours, +m-n, counted from 1 by where blocks end, where l = l'"
    findings.append(Finding(what=what, expected=Near(value=1), ours=by_end))
    every = min(_share(one, counting, ((4, 4, 4),)) for one in READINGS.values() for counting in COUNTINGS)
    what = "all readings, counted in any way, where l = d = l'"
    return (*findings, Finding(what=what, expected=Near(value=1), ours=every))


CARD = Card(
    name="nsa-equation-9",
    claim=(
        "Equation 9 is right with each sign where blocks are counted its own way: +m+n (first printed) from 0 by where "
        "they end, -m-n (printed later) from 1 by where they begin, +m-n from 0 by where they begin."
    ),
    source="Yuan et al. 2025 (arXiv 2502.11089), equation 9, in its first and its later version",
    computed=(
        "the share of sizes (l, d, l') at which a reading finds exactly the compressed blocks that share tokens with "
        "each selectable one, as often as they share strides of d tokens: 1 is right, 0 never right"
    ),
    tolerance="none: sets of tokens are compared",
    seconds=1,
    compute=_compute,
)
