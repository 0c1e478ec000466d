"""A WordPiece vocabulary from words: pairs of neighbours are joined, the most frequent first, until it is full.

This is the trainer of the `tokenizers` library, byte-pair merging (Sennrich et al. 2016, arXiv 1508.07909) over symbols
that know whether they begin a word: "h ##e ##l ##l ##o". Only the tokens are kept, not the order of the merges.
The criterion of the paper (Schuster and Nakajima 2012, "Japanese and Korean Voice Search", section 2; its code was not
released) is the pair that raises the likelihood of the text most under a unigram model of the tokens:

    here  max count(ab)        there  max count(ab) / (count(a) count(b))

Of pairs that are equally frequent the one with the smaller ids goes first. Ids: special tokens, the characters by code
point, the same with `##`, merges as they come. `tokenizers` gives the `##` characters ids in an order that changes
with every run, so that its vocabulary does too where two counts are equal; in ours there is nothing random.
Departures: words too long to be encoded, and words with a character beyond `coverage`, are not learned from.
Read next: text/wordpiece.py
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from cutaway.base.errors import BadInput
from cutaway.base.progress import track
from cutaway.text.coverage import covering
from cutaway.text.merges import merged

Pair = tuple[int, int]


def learn(
    words: Mapping[str, int], *, size: int, special: Sequence[str], coverage: float = 1.0, prefix: str = "##"
) -> list[str]:
    """At most `size` tokens in the order of their ids. `words` says how often each word occurs.

    Raises BadInput where there are no words, and where `size` cannot hold the characters.
    """
    alphabet = sorted(covering(words, coverage))
    known = set(alphabet)
    kept = {word: count for word, count in words.items() if known.issuperset(word)}
    if not kept:
        raise BadInput("there are no words in it", field="corpus")
    tokens = list(dict.fromkeys([*special, *alphabet]))
    tokens += sorted({prefix + character for word in kept for character in word[1:]} - set(tokens))
    if size < len(tokens):
        message = f"{size} tokens; {len(tokens)} are the special ones and the text's characters ({len(alphabet)})"
        raise BadInput(f"{message}; take a larger vocabulary or a lower coverage than {coverage:g}", field="vocab")
    ids = {token: index for index, token in enumerate(tokens)}
    spelled = [[ids[word[0]], *(ids[prefix + character] for character in word[1:])] for word in kept]
    pairs = Pairs(spelled, list(kept.values()))
    for _ in track(range(size - len(tokens)), "joining pairs"):  # as many as there is room for, at most
        while len(ids) == len(tokens):  # two ways to make one token make no second token
            best = pairs.best()
            if best is None:
                return tokens
            joined = tokens[best[0]] + tokens[best[1]].removeprefix(prefix)
            pairs.join(best, ids.setdefault(joined, len(ids)))
        tokens.append(next(reversed(ids)))
    return tokens


class Pairs:
    """Words as lists of ids, with the count of each pair of neighbours and the words in which it stands.

    The heap holds every pair with a count that it has had; one that is out of date goes back with its present count.
    """

    def __init__(self, words: Sequence[list[int]], counts: Sequence[int]):
        self.words, self.weights = list(words), list(counts)
        self.counts: Counter[Pair] = Counter()
        self.where: dict[Pair, set[int]] = {}
        for index, word in enumerate(self.words):
            for pair in pairwise(word):
                self._count(pair, index)
        self._heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self._heap)

    def _count(self, pair: Pair, index: int) -> None:
        self.counts[pair] += self.weights[index]
        self.where.setdefault(pair, set()).add(index)

    def best(self) -> Pair | None:
        """The most frequent pair, of several the one with the smallest ids; None when every word is one token."""
        while self._heap:
            stated, pair = heapq.heappop(self._heap)
            count = self.counts.get(pair, 0)
            if count == -stated:
                return pair
            if count:
                heapq.heappush(self._heap, (-count, pair))
        return None

    def join(self, pair: Pair, new: int) -> None:
        """Makes `pair` one symbol in every word, from the left."""
        fresh: set[Pair] = set()
        for index in self.where.pop(pair):
            before = self.words[index]
            after = self.words[index] = merged(before, pair, new)
            gone = set(pairwise(before))
            for old in pairwise(before):
                self.counts[old] -= self.weights[index]
            for now in pairwise(after):
                self._count(now, index)
                gone.discard(now)
                if new in now:
                    fresh.add(now)
            for old in gone:
                self.where.get(old, set()).discard(index)
                if not self.counts[old]:
                    del self.counts[old]
        for one in fresh:
            heapq.heappush(self._heap, (-self.counts[one], one))
