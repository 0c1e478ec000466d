"""Every sum and maximum against all cuts, written out one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.text.lattice import Lattice, expand

PIECES = {"a": -2.0, "b": -2.5, "c": -1.5, "ab": -3.0, "bc": -3.2, "abc": -4.1, "aa": -3.9, "ca": -3.4}
NAMES = list(PIECES)
LOGPROBS = np.array(list(PIECES.values()))


def lattice(texts: list[str]) -> Lattice:
    begins, starts, ends, pieces, place = [], [], [], [], 0
    for text in texts:
        begins.append(place)
        for piece, name in enumerate(NAMES):
            for start in range(len(text)):
                if text.startswith(name, start):
                    starts.append(place + start)
                    ends.append(place + start + len(name))
                    pieces.append(piece)
        place += len(text) + 1
    finals = [begin + len(text) for begin, text in zip(begins, texts, strict=True)]
    parts = {"begins": begins, "finals": finals, "starts": starts, "ends": ends, "pieces": pieces}
    return Lattice(**{name: np.array(values) for name, values in parts.items()})


def cuts(text: str) -> list[list[str]]:
    """Every way to write `text`."""
    if not text:
        return [[]]
    found = []
    for name in NAMES:
        if text.startswith(name):
            found += [[name, *rest] for rest in cuts(text[len(name) :])]
    return found


def score(cut: list[str]) -> float:
    return sum(PIECES[piece] for piece in cut)


texts_of = st.lists(st.text("abc", min_size=1, max_size=7), min_size=1, max_size=5)


@given(texts=texts_of)
def test_expected_counts_and_likelihood_are_those_of_all_cuts(texts):
    weights = np.arange(1.0, len(texts) + 1)
    counts, likelihood = lattice(texts).expected(LOGPROBS, weights)
    wanted, total = dict.fromkeys(NAMES, 0.0), 0.0
    for text, weight in zip(texts, weights.tolist(), strict=True):
        all_cuts = cuts(text)
        whole = math.fsum(math.exp(score(cut)) for cut in all_cuts)
        total += weight * math.log(whole)
        for cut in all_cuts:
            for piece in cut:
                wanted[piece] += weight * math.exp(score(cut)) / whole
    assert likelihood == pytest.approx(total, rel=1e-12)  # float64 rounding over a few dozen terms
    assert counts == pytest.approx(list(wanted.values()), rel=1e-9, abs=1e-12)


@given(texts=texts_of)
def test_the_best_way_is_the_best_of_all_cuts(texts):
    graph = lattice(texts)
    scores, arrival = graph.best(LOGPROBS)
    found: list[list[str]] = [[] for _ in texts]
    for owners, edges in graph.walk(arrival):
        for owner, edge in zip(owners.tolist(), edges.tolist(), strict=True):
            found[owner].insert(0, NAMES[graph.pieces[edge]])
    for text, cut, final in zip(texts, found, graph.finals, strict=True):
        assert "".join(cut) == text
        assert score(cut) == pytest.approx(max(map(score, cuts(text))))
        assert scores[final] == pytest.approx(score(cut))


def test_of_equal_ways_the_longest_last_piece_wins():
    graph = lattice(["aab"])
    scores = np.array([-1.0, -1.0, -9.0, -2.0, -9.0, -9.0, -2.0, -9.0])  # a|a|b = a|ab = aa|b
    _, arrival = graph.best(scores)
    last = next(iter(graph.walk(arrival)))[1]
    assert [NAMES[graph.pieces[edge]] for edge in last] == ["ab"]


@given(text=st.text("abc", min_size=2, max_size=7), data=st.data())
def test_a_stretch_is_written_with_other_pieces(text, data):
    graph = lattice(["cb", text])
    first = data.draw(st.integers(0, len(text) - 2))
    length = data.draw(st.integers(2, len(text) - first))
    inner = graph.spans(np.array([3 + first, 0]), np.array([length, 2]))
    scores, _ = inner.best(LOGPROBS)
    part = text[first : first + length]
    assert scores[inner.finals[0]] == pytest.approx(max(map(score, [cut for cut in cuts(part) if len(cut) > 1])))
    assert scores[inner.finals[1]] == pytest.approx(score(["c", "b"]))


def test_pieces_that_left_are_in_no_cut():
    graph = lattice(["abc", "aab"])
    kept = np.array([0, 1, 2, -1, 3, -1, 4, 5])  # without ab and abc
    counts, _ = graph.without(kept).expected(LOGPROBS[kept >= 0], np.ones(2))
    assert len(counts) == 6
    assert counts.sum() > 4 and counts @ np.array([1, 1, 1, 2, 2, 2]) == pytest.approx(6)  # every character once


def test_ranges_are_written_out():
    owners, values = expand(np.array([5, 2, 7]), np.array([8, 2, 9]))
    assert owners.tolist() == [0, 0, 0, 2, 2]
    assert values.tolist() == [5, 6, 7, 7, 8]
