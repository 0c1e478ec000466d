"""Every stretch of text that occurs more than once, counted, out of a sorted list of all suffixes.

Sorting by prefix doubling: Manber and Myers 1993, "Suffix arrays". Suffixes that begin alike stand together, so a
stretch is a run in that list, and its count is the weight of the run. Only stretches that some two occurrences continue
differently are given: "hous", always followed by "e", would say nothing that "house" does not (Kudo 2018, section 3.2;
SentencePiece takes the same ones from an enhanced suffix array).
Departure from SentencePiece: a whole text that occurs twice is given even if it is found in no other.

n places in the flat text, every text followed by one boundary, 0.   Read next: text/lattice.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.text.lattice import Floats, Ints, expand


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Stretches: number r has `lengths[r]` characters, weighs `weights[r]`, and occurs at places[low[r]:high[r]]."""

    places: Ints
    low: Ints
    high: Ints
    lengths: Ints
    weights: Floats

    def best(self, count: int) -> Runs:
        """The `count` stretches that cover most text."""
        if len(self.low) <= count:
            return self
        kept = np.sort(np.argpartition(-self.weights * self.lengths, count)[:count])
        return Runs(
            places=self.places,
            low=self.low[kept],
            high=self.high[kept],
            lengths=self.lengths[kept],
            weights=self.weights[kept],
        )

    def occurrences(self) -> tuple[Ints, Ints]:
        """Of every occurrence: which stretch it is, and its place."""
        owners, at = expand(self.low, self.high)
        return owners, self.places[at]

    def firsts(self) -> Ints:
        """One place of each stretch."""
        return self.places[self.low]


def repeated(text: Ints, weights: Floats, *, longest: int) -> Runs:
    """The stretches of 2 to `longest` characters in `text` (n,), where 0 ends a text; `weights` (n,) is of its text."""
    ends = np.flatnonzero(text == 0)
    reach = ends[np.searchsorted(ends, np.arange(len(text)))] - np.arange(len(text))
    ranks = _ranks(text, longest)
    places = np.argsort(ranks[-1][1], kind="stable")
    places = places[reach[places] > 0]
    shared = np.zeros(max(len(places) - 1, 0), dtype=np.int64)  # how far each suffix agrees with the next one
    for width, rank in reversed(ranks):
        padded = np.r_[rank, 0]  # behind the last boundary all is boundary
        here = padded[np.minimum(places[:-1] + shared, len(text))]
        shared += np.where(here == padded[np.minimum(places[1:] + shared, len(text))], width, 0)
    shared = np.minimum(np.minimum(shared, longest), np.minimum(reach[places[:-1]], reach[places[1:]]))
    found = [_of_length(shared, length) for length in range(2, longest + 1)]
    found.append(_alone(text, reach, places, shared, longest))
    low = np.concatenate([low for low, _, _ in found])
    high = np.concatenate([high for _, high, _ in found])
    lengths = np.concatenate([lengths for _, _, lengths in found])
    before = np.r_[0.0, np.cumsum(weights[places])]
    total = before[high] - before[low]
    heavy = total >= 2
    return Runs(places=places, low=low[heavy], high=high[heavy], lengths=lengths[heavy], weights=total[heavy])


def _ranks(text: Ints, longest: int) -> Sequence[tuple[int, Ints]]:
    """[(width, rank of each place's next `width` characters)] for widths 1, 2, 4 ... of at least `longest` together."""
    rank = np.unique(text, return_inverse=True)[1].astype(np.int64)
    ranks = [(1, rank)]
    while ranks[-1][0] < longest:
        width, rank = ranks[-1]
        later = np.r_[rank[width:], np.zeros(min(width, len(rank)), dtype=np.int64)]
        rank = np.unique(rank * (rank.max() + 1) + later, return_inverse=True)[1].astype(np.int64)
        ranks.append((2 * width, rank))
    return ranks


def _of_length(shared: Ints, length: int) -> tuple[Ints, Ints, Ints]:
    """Runs of suffixes that agree in `length` characters, of which some two agree in no more."""
    agree = np.r_[False, shared >= length, False]
    low = np.flatnonzero(agree[1:] & ~agree[:-1])
    high = np.flatnonzero(agree[:-1] & ~agree[1:])  # the last suffix of each run
    exact = np.r_[0, np.cumsum(shared == length)]
    branching = exact[high] > exact[low]
    return low[branching], high[branching] + 1, np.full(int(branching.sum()), length)


def _alone(text: Ints, reach: Ints, places: Ints, shared: Ints, longest: int) -> tuple[Ints, Ints, Ints]:
    """Whole texts that are found nowhere else; only their own weight can make them worth a piece."""
    begins = np.r_[True, text[:-1] == 0][places]
    lengths = reach[places]
    neighbour = np.maximum(np.r_[0, shared], np.r_[shared, 0])
    alone = np.flatnonzero(begins & (lengths > 1) & (lengths <= longest) & (neighbour < lengths))
    return alone, alone + 1, lengths[alone]
