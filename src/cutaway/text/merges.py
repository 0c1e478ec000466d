"""Applies learned merges to one piece of text: again and again the pair that was learned first, the leftmost first.

Sennrich, Haddow, Birch 2016 (arXiv 1508.07909), section 3.2: encoding repeats what training did, in its order, so that
a new word falls apart as it would have in training. `join` looks through all pairs before each merge, which takes time
n^2 and is what one wants for words; `join_long` keeps the pairs in a heap and takes n log n, for a line without spaces.
Read next: text/bpe.py
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise

Ranks = Mapping[tuple[int, int], tuple[int, int]]  # (left id, right id) -> (place in the list of merges, id it makes)

LONG = 64  # symbols from which the heap pays


def joined(symbols: Sequence[int], ranks: Ranks) -> list[int]:
    """`symbols` after all merges that apply."""
    return join(symbols, ranks) if len(symbols) < LONG else join_long(symbols, ranks)


def join(symbols: Sequence[int], ranks: Ranks) -> list[int]:
    """The readable form."""
    symbols = list(symbols)
    while True:
        known = [(ranks[pair], place) for place, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not known:
            return symbols
        (_, new), place = min(known)
        symbols[place : place + 2] = [new]


def merged(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    """`symbols` with every occurrence of one `pair`, taken from the left, replaced by `new`: a step of training."""
    left, right = pair
    result: list[int] = []
    place, last = 0, len(symbols) - 1
    while place <= last:
        if place < last and symbols[place] == left and symbols[place + 1] == right:
            result.append(new)
            place += 2
        else:
            result.append(symbols[place])
            place += 1
    return result


def join_long(symbols: Sequence[int], ranks: Ranks) -> list[int]:
    """The same with a heap of (rank, place, id it makes) over a linked list; an entry whose pair is gone is skipped."""
    symbols = list(symbols)
    end = len(symbols)
    after, before = list(range(1, end + 1)), list(range(-1, end - 1))
    found = ((ranks.get(pair), place) for place, pair in enumerate(pairwise(symbols)))
    heap = [(known[0], place, known[1]) for known, place in found if known is not None]
    heapq.heapify(heap)

    def offer(place: int) -> None:
        if place >= 0 and after[place] < end:
            known = ranks.get((symbols[place], symbols[after[place]]))
            if known is not None:
                heapq.heappush(heap, (known[0], place, known[1]))

    while heap:
        rank, place, new = heapq.heappop(heap)
        second = after[place]
        if second >= end or ranks.get((symbols[place], symbols[second])) != (rank, new):
            continue
        symbols[place], symbols[second] = new, -1
        after[place] = after[second]
        after[second] = end
        if after[place] < end:
            before[after[place]] = place
        offer(before[place])
        offer(place)
    return [symbol for symbol in symbols if symbol >= 0]
