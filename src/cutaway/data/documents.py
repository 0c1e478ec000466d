"""Documents of token ids, wherever they lie: what everything that makes batches reads from.

Read next: data/shards.py (on the disk), data/packing.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from cutaway.base.errors import BadInput


class Documents(Protocol):
    """`lengths`: int64, the tokens of each document."""

    @property
    def lengths(self) -> np.ndarray: ...

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Token ids `start` to `stop` of one document."""
        ...

    def stretch(self, start: int, stop: int) -> np.ndarray:
        """Token ids `start` to `stop` of all documents laid end to end."""
        ...


class Held:
    """Documents in memory."""

    def __init__(self, documents: Iterable[Sequence[int] | np.ndarray]):
        arrays = [np.asarray(document, dtype=np.int64).reshape(-1) for document in documents]
        self.lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        self._tokens = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)
        self._starts = np.cumsum(self.lengths) - self.lengths

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        first = int(self._starts[document])
        return self._tokens[first + start : first + stop]

    def stretch(self, start: int, stop: int) -> np.ndarray:
        return self._tokens[start:stop]


class Joined:
    """All documents as a single one, without boundaries: the long stream that nanoGPT draws its windows from."""

    def __init__(self, documents: Documents):
        self._documents = documents
        self.lengths = np.array([documents.lengths.sum()], dtype=np.int64)

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        return self._documents.stretch(start, stop)

    def stretch(self, start: int, stop: int) -> np.ndarray:
        return self._documents.stretch(start, stop)


class Chained:
    """Several sets of documents, one behind the other; `firsts[k]` is the number of the first document of set k."""

    def __init__(self, sets: Sequence[Documents]):
        if not sets:
            raise BadInput("there are no documents to chain", field="sets")
        self._sets = tuple(sets)
        counts = [len(one.lengths) for one in sets]
        self.lengths = np.concatenate([one.lengths for one in sets])
        self.firsts = np.cumsum(counts) - counts
        sizes = np.array([int(one.lengths.sum()) for one in sets], dtype=np.int64)
        self._edges = np.concatenate([[0], np.cumsum(sizes)])

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        place = int(np.searchsorted(self.firsts, document, side="right")) - 1  # never an empty set: the next one wins
        return self._sets[place].read(document - int(self.firsts[place]), start, stop)

    def stretch(self, start: int, stop: int) -> np.ndarray:
        return stretched([one.stretch for one in self._sets], self._edges, start, stop)


def stretched(reads: Sequence, edges: np.ndarray, start: int, stop: int) -> np.ndarray:
    """`start` to `stop` over several arrays that lie end to end: `reads[k](a, b)` reads in array k, which covers
    `edges[k]` to `edges[k + 1]`."""
    stop = min(stop, int(edges[-1]))
    place, parts = int(np.searchsorted(edges, start, side="right")) - 1, []
    while start < stop:
        end = min(stop, int(edges[place + 1]))
        if end > start:
            parts.append(reads[place](start - int(edges[place]), end - int(edges[place])))
        start, place = end, place + 1
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
