"""One text cut into pieces by a unigram model: the best cut, a random one, and the probability of all cuts together.

Kudo 2018, "Subword Regularization", arXiv 1804.10959, sections 3.2 and 3.3; Viterbi 1967.

    best    s_j = max over pieces from i to j of s_i + score(piece)
    sample  P(cut) proportional to P(cut)^a: forwards the sums over all cuts, then backwards one piece after another

A character that is no piece by itself is an unknown one, at the lowest score of all pieces less 10 (SentencePiece's).
Of equal cuts the one whose last piece is longest wins: a later way must be better, as in `tokenizers`.
Read next: text/lattice.py (the same sums for many texts at once)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

PENALTY = 10.0  # nats that an unknown character costs beyond the least probable piece

Cut = list[tuple[int, int]]  # the pieces' places, in order


class Cutter:
    """Cuts texts with `scores`, the natural log-probability of each piece."""

    def __init__(self, scores: Mapping[str, float]):
        self._scores = scores
        self._longest = max(map(len, scores), default=1)
        self._unknown = min(scores.values(), default=0.0) - PENALTY

    def edges(self, text: str) -> Iterator[tuple[int, int, float]]:
        """Every piece at every place: (start, end, score), by start and then by end."""
        for start in range(len(text)):
            alone = True
            for end in range(start + 1, min(start + self._longest, len(text)) + 1):
                score = self._scores.get(text[start:end])
                if score is not None:
                    alone = alone and end > start + 1
                    yield start, end, score
            if alone:
                yield start, start + 1, self._unknown

    def best(self, text: str) -> Cut:
        """The most probable cut."""
        best = [0.0] + [-math.inf] * len(text)
        came = [-1] * (len(text) + 1)
        for start, end, score in self.edges(text):
            way = best[start] + score
            if came[end] < 0 or way > best[end]:
                best[end], came[end] = way, start
        return _back(len(text), came.__getitem__)

    def sample(self, text: str, random: Random, smoothing: float = 1.0) -> Cut:
        """A cut drawn with probability proportional to its own to the power of `smoothing` (0: all alike)."""
        arriving, _ = self._forward(text, smoothing)
        return _back(len(text), lambda end: _draw(arriving[end], random))

    def log_likelihood(self, text: str) -> float:
        """log of the sum over all cuts of their probabilities."""
        return self._forward(text, 1.0)[1]

    def _forward(self, text: str, smoothing: float) -> tuple[list[list[tuple[int, float]]], float]:
        """For each place the ways to it, (start of the last piece, log-weight of all cuts so); the log-sum of all."""
        arriving: list[list[tuple[int, float]]] = [[] for _ in range(len(text) + 1)]
        total, place = 0.0, 0
        for start, end, score in self.edges(text):
            if start > place:  # edges come by start: those that end here have all been seen
                total, place = _log_sum([weight for _, weight in arriving[start]]), start
            arriving[end].append((start, total + smoothing * score))
        return arriving, _log_sum([weight for _, weight in arriving[-1]]) if text else 0.0


def _back(end: int, came: Callable[[int], int]) -> Cut:
    """From the end to the beginning: `came(end)` is where the piece that ends there starts."""
    cut: Cut = []
    while end > 0:
        start = came(end)
        cut.append((start, end))
        end = start
    return cut[::-1]


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(log - top) for log in logs))


def _draw(ways: Sequence[tuple[int, float]], random: Random) -> int:
    top = max(weight for _, weight in ways)
    starts = [start for start, _ in ways]
    return random.choices(starts, weights=[math.exp(weight - top) for _, weight in ways])[0]
