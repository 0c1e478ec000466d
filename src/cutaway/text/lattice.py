"""Every way to cut many short texts into pieces, held as arrays: the sums and maxima that fitting a model needs.

Kudo 2018, "Subword Regularization", section 3.2, arXiv 1804.10959. The texts lie end to end, each followed by one empty
slot, so that a place between two characters is one number, a node; a piece from node i to node j is an edge.

    forward    alpha_j = log sum over edges i -> j of exp(alpha_i + logprob(piece))       alpha at a text's end: log Z
    backward   mass_i += mass_j exp(alpha_i + logprob(piece) - alpha_j)                   what flows: expected counts

All edges that end as deep in their texts are one step of numpy: as many steps as the longest text has characters.

n nodes · e edges · p pieces · s texts (all arrays are flat).   Read next: text/viterbi.py (one text, in plain Python)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Edges `start` to `stop` end at one depth: at `nodes`, each node's first edge at `offsets`, `counts` of them."""

    start: int
    stop: int
    nodes: Ints
    offsets: Ints
    counts: Ints


class Lattice:
    """The edges of texts whose first nodes are `begins` (s,) and whose last are `finals` (s,).

    `starts`, `ends`, `pieces` (e,) may come in any order. Every node but a first one must have an edge that ends there.
    """

    def __init__(self, *, begins: Ints, finals: Ints, starts: Ints, ends: Ints, pieces: Ints):
        depths = ends - np.repeat(begins, finals - begins + 1)[ends]
        longest = int((ends - starts).max())
        key = (depths * (finals[-1] + 1) + ends) * (longest + 1) + longest - (ends - starts)
        order = np.argsort(key, kind="stable")  # by depth, end and start; long runs are in order already
        self._set(begins, finals, starts[order], ends[order], pieces[order])

    def _set(self, begins: Ints, finals: Ints, starts: Ints, ends: Ints, pieces: Ints) -> None:
        self.begins, self.finals, self.starts, self.ends, self.pieces = begins, finals, starts, ends, pieces
        self.size = int(finals[-1]) + 1
        firsts = np.flatnonzero(np.r_[True, ends[1:] != ends[:-1]])  # of each node's edges
        nodes = ends[firsts]
        depths = nodes - np.repeat(begins, finals - begins + 1)[nodes]
        cuts = np.flatnonzero(np.r_[True, depths[1:] != depths[:-1], True])
        bounds = np.r_[firsts, len(ends)]
        self.layers = [
            Layer(
                start=int(bounds[low]),
                stop=int(bounds[high]),
                nodes=nodes[low:high],
                offsets=firsts[low:high] - bounds[low],
                counts=np.diff(bounds[low : high + 1]),
            )
            for low, high in pairwise(cuts)
        ]

    def without(self, numbers: Ints) -> Lattice:
        """The lattice after pieces left: `numbers` (p,) is each piece's new number, negative for one that is gone."""
        pieces = numbers[self.pieces]
        kept = pieces >= 0
        left = Lattice.__new__(Lattice)
        left._set(self.begins, self.finals, self.starts[kept], self.ends[kept], pieces[kept])
        if "_by_start" in self.__dict__:  # the order of what is left is known
            order = self._by_start
            left._by_start = (np.cumsum(kept) - 1)[order[kept[order]]]
        return left

    def expected(self, logprobs: Floats, weights: Floats) -> tuple[Floats, float]:
        """How often each piece is expected (p,), and the log-likelihood; text s counts `weights[s]` times."""
        alpha = np.zeros(self.size)
        scores = logprobs[self.pieces]
        for layer in self.layers:
            here = slice(layer.start, layer.stop)
            scores[here] += alpha[self.starts[here]]
            best = np.maximum.reduceat(scores[here], layer.offsets)
            total = np.add.reduceat(np.exp(scores[here] - np.repeat(best, layer.counts)), layer.offsets)
            alpha[layer.nodes] = best + np.log(total)
        mass = np.zeros(self.size)
        mass[self.finals] = weights
        flows = np.empty(len(self.pieces))
        for layer in reversed(self.layers):
            here = slice(layer.start, layer.stop)
            ends = self.ends[here]
            flows[here] = mass[ends] * np.exp(scores[here] - alpha[ends])
            np.add.at(mass, self.starts[here], flows[here])
        counts = np.bincount(self.pieces, weights=flows, minlength=len(logprobs))
        return counts.astype(np.float64), float(alpha[self.finals] @ weights)

    def best(self, logprobs: Floats) -> tuple[Floats, Ints]:
        """The score of the best way to each node (n,), and the edge by which it arrives there (n,).

        Of equal ways the one whose last piece is longest wins, as in a loop that starts from the left.
        """
        score = np.zeros(self.size)
        arrival = np.full(self.size, -1, dtype=np.int64)
        for layer in self.layers:
            here = slice(layer.start, layer.stop)
            ways = score[self.starts[here]] + logprobs[self.pieces[here]]
            best = np.maximum.reduceat(ways, layer.offsets)
            hits = np.flatnonzero(ways == np.repeat(best, layer.counts))[::-1] + layer.start
            score[layer.nodes] = best
            arrival[self.ends[hits]] = hits  # written from the last to the first: the first stays
        return score, arrival

    def walk(self, arrival: Ints) -> Iterator[tuple[Ints, Ints]]:
        """From the last piece to the first, all texts at once: the texts still under way, and each one's edge."""
        texts, nodes = np.arange(len(self.finals)), self.finals
        while len(texts):
            edges = arrival[nodes]
            yield texts, edges
            nodes = self.starts[edges]
            under_way = nodes != self.begins[texts]
            texts, nodes = texts[under_way], nodes[under_way]

    @cached_property
    def _by_start(self) -> Ints:
        """The edges in the order of their starts."""
        return np.argsort(self.starts, kind="stable")

    def spans(self, firsts: Ints, lengths: Ints) -> Lattice:
        """Stretches of these texts as texts of their own, without the edge that covers a whole stretch.

        What is left of a stretch are the ways to write it with other pieces.
        """
        order, pointers = self._by_start, np.r_[0, np.cumsum(np.bincount(self.starts, minlength=self.size))]
        low, high = pointers[firsts], pointers[firsts + lengths]
        owners, places = expand(low, high)
        edges = order[places]
        starts, ends = self.starts[edges] - firsts[owners], self.ends[edges] - firsts[owners]
        kept = (ends <= lengths[owners]) & (ends - starts < lengths[owners])
        begins = np.r_[0, np.cumsum(lengths + 1)[:-1]]
        shift = begins[owners[kept]]
        return Lattice(
            begins=begins,
            finals=begins + lengths,
            starts=starts[kept] + shift,
            ends=ends[kept] + shift,
            pieces=self.pieces[edges[kept]],
        )


def expand(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """All integers of the ranges low[i] to high[i], ranges in order; and for each which range it came from."""
    counts = high - low
    owners = np.repeat(np.arange(len(low)), counts)
    before = np.cumsum(counts) - counts
    return owners, np.arange(int(counts.sum())) - np.repeat(before - low, counts)
