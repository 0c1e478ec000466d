"""What a corpus is made of: how long its documents are, what they are written in, what packing them would waste.

Read next: data/packing.py
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from cutaway.data.cleaning import shares
from cutaway.data.entry import Entry
from cutaway.data.packing import best_fit

SHOWN = 3  # documents kept to be shown
SCRIPTS_OF = 1 << 12  # characters of each document that are looked at for its script


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Documents with `low` to `high` units, both included."""

    low: int
    high: int
    documents: int
    units: int


@dataclass
class Survey:
    """Raw documents, counted as they go by. `scripts`: letters of each script, weighted by length."""

    lengths: list[int] = field(default_factory=list)
    bytes: int = 0
    scripts: dict[str, float] = field(default_factory=dict)
    first: list[Entry] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Survey:
        survey = cls()
        for entry in entries:
            survey.lengths.append(len(entry.text))
            survey.bytes += len(entry.text.encode("utf-8", "surrogatepass"))
            for script, share in shares(entry.text[:SCRIPTS_OF]).items():
                survey.scripts[script] = survey.scripts.get(script, 0.0) + share * len(entry.text)
            if len(survey.first) < SHOWN:
                survey.first.append(entry)
        return survey


def histogram(lengths: np.ndarray) -> list[Bin]:
    """Bins that double: 1, 2-3, 4-7, ... from the shortest to the longest; empty documents apart."""
    if not len(lengths):
        return []
    bins = [Bin(low=0, high=0, documents=int((lengths == 0).sum()), units=0)] if (lengths == 0).any() else []
    present = lengths[lengths > 0]
    if not len(present):
        return bins
    for power in range(int(present.min()).bit_length() - 1, int(present.max()).bit_length()):
        low, high = 1 << power, (1 << power + 1) - 1
        held = present[(present >= low) & (present <= high)]
        bins.append(Bin(low=low, high=high, documents=len(held), units=int(held.sum())))
    return bins


def packing_waste(lengths: np.ndarray, length: int) -> tuple[int, float]:
    """(rows, the share of their places that stays empty) of whole documents packed by best fit into rows of `length`;
    what is longer is cut."""
    whole, rest = np.divmod(lengths, length)
    rows = int(whole.sum()) + len(best_fit(rest[rest > 0], length))
    return rows, 1 - int(lengths.sum()) / (rows * length) if rows else 0.0


def padding_waste(lengths: np.ndarray, length: int) -> float:
    """The share that stays empty if each document has rows of its own, which is what padding does."""
    rows = int((-(-lengths // length)).sum())
    return 1 - int(lengths.sum()) / (rows * length) if rows else 0.0
