"""Which pair to merge next: byte-pair training, in the form that explains it and in the form that is used.

Gage 1994; Sennrich, Haddow, Birch 2016 (arXiv 1508.07909), algorithm 1: count all pairs of neighbours in all words,
make the most frequent one a new symbol, repeat.
Ties: of pairs that are equally frequent the one with the smaller ids comes first (the left id decides, then the right
one), which is the rule of the `tokenizers` library; the order of words is of no account. In a run "aaa" the pair (a, a)
counts twice and is merged from the left.
Both forms yield one merge (left id, right id, count) after another for as long as there are pairs.
Read next: text/merges.py (what encoding does with them), text/bpe.py
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from cutaway.base.errors import BadInput
from cutaway.text.merges import merged

Merge = tuple[int, int, int]
LIMIT = 2**31 - 1  # places are numbers of 32 bits
_DEAD = -1  # the symbol of a place that was merged into the one before it, and of what lies outside of every word
_HALF = 32  # a pair is one number for the heap: left id * 2^32 + right id, which sorts as the pair does


def merges_recounted(words: Mapping[bytes, int], ids: Sequence[int]) -> Iterator[Merge]:
    """The readable form: every pair is counted anew for every merge.

    `words` are the pieces of a corpus with how often each occurs, `ids[b]` is the id of byte b; merge k makes id
    max(ids) + 1 + k.
    """
    split = [([ids[byte] for byte in word], count) for word, count in words.items()]
    new = max(ids) + 1
    while True:
        counts: Counter[tuple[int, int]] = Counter()
        for symbols, count in split:
            for pair in pairwise(symbols):
                counts[pair] += count
        if not counts:
            return
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        yield *best, counts[best]
        split = [(merged(symbols, best, new), count) for symbols, count in split]
        new += 1


def merges_kept(words: Mapping[bytes, int], ids: Sequence[int]) -> Iterator[Merge]:
    """The fast form of `merges_recounted`: counts are kept up to date, and a merge looks only where its pair stands.

    A heap holds every pair with the count it had when it was new. A count can only fall from then on, for two symbols
    become neighbours only in the merge that makes the younger of them; so an entry that is out of date goes back with
    its present count, and one that is not is the best there is.
    """
    table = PairTable(words, ids)
    heap = [(-count, key) for key, count in table.counts.items()]
    heapq.heapify(heap)
    new = max(ids) + 1
    while heap:
        stated, key = heapq.heappop(heap)
        count = table.counts.get(key, 0)
        if count != -stated:
            if count:
                heapq.heappush(heap, (-count, key))
            continue
        yield key >> _HALF, key & ((1 << _HALF) - 1), count
        for fresh in table.merge(key, new):
            heapq.heappush(heap, (-table.counts[fresh], fresh))
        new += 1


class PairTable:
    """All words end to end as linked lists in arrays; for each pair its count and the places where it begins.

    `symbol[p]` is the id at place p, `after[p]` and `before[p]` are the neighbouring places in its word. A merge writes
    the new id at the first place of each occurrence and takes the second out of the list. Places are never removed from
    `places`: one where the pair no longer begins is known by its symbols.
    """

    def __init__(self, words: Mapping[bytes, int], ids: Sequence[int]):
        joined = np.frombuffer(b"".join(words), dtype=np.uint8)
        size = len(joined)
        if size >= LIMIT:
            raise BadInput(f"{size} bytes of different words; at most {LIMIT - 1}", field="corpus")
        lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        ends = np.cumsum(lengths)[lengths > 0] - 1
        self.symbol = np.append(np.asarray(ids, dtype=np.int32)[joined], np.int32(_DEAD))
        self.after = np.arange(1, size + 2, dtype=np.int32)
        self.before = np.arange(-1, size, dtype=np.int32)
        self.after[ends] = size  # the place behind all words stands for "none", on both sides
        self.before[[0, *(ends[:-1] + 1)] if size else []] = size
        self.word = np.repeat(np.arange(len(words), dtype=np.int32), lengths)
        self.weight = np.fromiter(words.values(), dtype=np.int64, count=len(words))
        self.counts: dict[int, int] = {}
        self.places: dict[int, tuple[np.ndarray, int, int]] = {}
        firsts = np.flatnonzero(self.after[:-1] != size).astype(np.int32)
        # Pairs of bytes fit in 16 bits, which numpy sorts by radix: the one sort here that sees every place.
        key = (joined[firsts].astype(np.uint16) << 8) | joined[firsts + 1]
        for pair, count, place in self._grouped(key, firsts):
            byte_pair = (ids[pair >> 8] << _HALF) | ids[pair & 255]
            self.counts[byte_pair], self.places[byte_pair] = count, place

    def _grouped(
        self, values: np.ndarray, places: np.ndarray
    ) -> Iterator[tuple[int, int, tuple[np.ndarray, int, int]]]:
        """For each distinct value: itself, how often it occurs in the corpus, and its places, in ascending order."""
        if not len(values):
            return
        order = np.argsort(values, kind="stable")
        values, places = values[order], places[order]
        starts = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))
        counts = np.add.reduceat(self.weight[self.word[places]], starts).tolist()
        edges = [*starts.tolist(), len(values)]
        for index, value in enumerate(values[starts].tolist()):
            yield value, counts[index], (places, edges[index], edges[index + 1])

    def merge(self, key: int, new: int) -> list[int]:
        """Makes the pair `key` the symbol `new` wherever it stands; returns the pairs that there are now besides."""
        left, right = key >> _HALF, key & ((1 << _HALF) - 1)
        first, second = self._occurrences(key, left, right)
        behind, ahead = self.after[second], self.before[first]
        self.symbol[first] = new
        self.symbol[second] = _DEAD
        self.after[first] = behind
        self.before[behind] = first
        fresh = []
        # On the right. A neighbour that was itself the beginning of an occurrence is `new` by now, and was `left`.
        some = self.symbol[behind] >= 0
        for symbol, count, places in self._grouped(self.symbol[behind[some]], first[some]):
            self._fall((right << _HALF) | (left if symbol == new else symbol), count)
            fresh.append(self._add((new << _HALF) | symbol, count, places))
        # On the left. A neighbour that was the end of an occurrence is dead by now, and was counted on its right.
        some = self.symbol[ahead] >= 0
        for symbol, count, places in self._grouped(self.symbol[ahead[some]], ahead[some]):
            self._fall((symbol << _HALF) | left, count)
            fresh.append(self._add((symbol << _HALF) | new, count, places))
        return fresh

    def _occurrences(self, key: int, left: int, right: int) -> tuple[np.ndarray, np.ndarray]:
        """The first and second places of the pair, which leaves the table with that."""
        del self.counts[key]
        places, start, stop = self.places.pop(key)
        first = places[start:stop]
        first = first[self.symbol[first] == left]
        second = self.after[first]
        stands = self.symbol[second] == right
        first, second = first[stands], second[stands]
        if left == right:  # in a run of equal symbols every other occurrence, from the left
            begins = np.append(True, second[:-1] != first[1:])
            index = np.arange(len(first))
            kept = (index - np.maximum.accumulate(np.where(begins, index, 0))) % 2 == 0
            first, second = first[kept], second[kept]
        return first, second

    def _fall(self, key: int, count: int) -> None:
        """Takes `count` off a pair's count; what falls to nothing is forgotten."""
        kept = self.counts.get(key)
        if kept is None:  # the pair that is being merged
            return
        if kept > count:
            self.counts[key] = kept - count
        else:
            del self.counts[key], self.places[key]

    def _add(self, key: int, count: int, places: tuple[np.ndarray, int, int]) -> int:
        self.counts[key], self.places[key] = count, places
        return key

    def check(self) -> None:
        """Asserts that every count is what counting anew gives, and that the lists are whole."""
        firsts = np.flatnonzero((self.symbol[:-1] != _DEAD) & (self.after[:-1] != len(self.word)))
        counts: Counter[int] = Counter()
        for place in firsts.tolist():
            behind = int(self.after[place])
            assert self.before[behind] == place
            counts[(int(self.symbol[place]) << _HALF) | int(self.symbol[behind])] += int(self.weight[self.word[place]])
        assert dict(counts) == self.counts
        assert self.counts.keys() == self.places.keys()
