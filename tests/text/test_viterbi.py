from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.text.viterbi import PENALTY, Cutter

SCORES = {"a": -2.0, "b": -2.5, "ab": -3.0, "ba": -4.0, "aba": -5.0, "你好": -3.0}
UNKNOWN = min(SCORES.values()) - PENALTY


def value(cut: list[str]) -> float:
    return sum(SCORES.get(piece, UNKNOWN) for piece in cut)


def cuts(text: str) -> list[list[str]]:
    """All ways to write it; a character that is no piece stands alone."""
    found = []
    for count in range(len(text)):
        for places in combinations(range(1, len(text)), count):
            bounds = [0, *places, len(text)]
            cut = [text[low:high] for low, high in pairwise(bounds)]
            if all(piece in SCORES or len(piece) == 1 for piece in cut):
                found.append(cut)
    return found or [[]]


@given(text=st.text("ab你好é", max_size=8))
def test_best_and_sum_are_those_of_all_cuts(text):
    cutter = Cutter(SCORES)
    ways = cutter.best(text)
    cut = [text[start:end] for start, end in ways]
    assert "".join(cut) == text
    assert value(cut) == pytest.approx(max(map(value, cuts(text))))
    total = math.log(math.fsum(math.exp(value(one)) for one in cuts(text)))
    assert cutter.log_likelihood(text) == pytest.approx(total)


def test_the_first_of_equal_ways_stays():
    cutter = Cutter({"a": -1.0, "b": -1.0, "ab": -2.0, "aa": -2.0})
    assert cutter.best("aab") == [(0, 1), (1, 3)]
    assert cutter.best("ab") == [(0, 2)]  # met from place 0, before a|b is met from place 1


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_draws_follow_the_probabilities(smoothing):
    cutter, random, draws = Cutter(SCORES), Random(7), 4000
    text = "abab"
    drawn = Counter(
        tuple(text[start:end] for start, end in cutter.sample(text, random, smoothing)) for _ in range(draws)
    )
    weights = {tuple(cut): math.exp(smoothing * value(cut)) for cut in cuts(text)}
    assert set(drawn) <= set(weights)
    for cut, weight in weights.items():
        share = weight / sum(weights.values())
        # five standard deviations of a count of `draws` throws; the seed is fixed besides
        assert abs(drawn[cut] - draws * share) < 5 * math.sqrt(draws * share * (1 - share)) + 1


def test_a_seed_gives_the_same_draws():
    cutter = Cutter(SCORES)
    assert [cutter.sample("abaab", Random(3)) for _ in range(3)] == [cutter.sample("abaab", Random(3))] * 3
    assert cutter.sample("", Random(0)) == cutter.best("") == []
