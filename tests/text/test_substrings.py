from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.text.substrings import Runs, repeated


def flat(texts: list[str]) -> tuple[np.ndarray, np.ndarray, str]:
    joined = "".join(f"{text}\0" for text in texts)
    codes = np.array([0 if character == "\0" else ord(character) - 96 for character in joined])
    weights = np.repeat(np.arange(1.0, len(texts) + 1), [len(text) + 1 for text in texts])
    return codes, weights, joined


def found_in(runs: Runs, joined: str) -> dict[str, float]:
    found = {}
    for number in range(len(runs.low)):
        places = runs.places[runs.low[number] : runs.high[number]].tolist()
        names = {joined[place : place + runs.lengths[number]] for place in places}
        assert len(names) == 1
        assert names.isdisjoint(found)
        found[names.pop()] = float(runs.weights[number])
    return found


def wanted(texts: list[str], longest: int) -> dict[str, float]:
    """Counted stretch by stretch."""
    weights, follow, times = Counter(), {}, Counter()
    for weight, text in enumerate(texts, start=1):
        for start in range(len(text)):
            for end in range(start + 2, min(len(text), start + longest) + 1):
                stretch = text[start:end]
                weights[stretch] += weight
                times[stretch] += 1
                # the end of a text is never the same as another one
                follow.setdefault(stretch, set()).add(text[end : end + 1] or (weight,))
    kept = {}
    for stretch, weight in weights.items():
        branching = times[stretch] > 1 and (len(follow[stretch]) > 1 or len(stretch) == longest)
        if weight >= 2 and (branching or stretch in texts):
            kept[stretch] = float(weight)
    return kept


@pytest.mark.parametrize("longest", [4, 5, 16])
@given(texts=st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=6, unique=True))
def test_stretches_are_those_counted_one_by_one(longest, texts):
    codes, weights, joined = flat(texts)
    got = found_in(repeated(codes, weights, longest=longest), joined)
    assert got == wanted(texts, longest)


def test_every_occurrence_is_given():
    codes, weights, joined = flat(["abab", "cab"])
    runs = repeated(codes, weights, longest=16)
    owners, places = runs.occurrences()
    number = next(index for index in range(len(runs.low)) if runs.weights[index] == 4 and runs.lengths[index] == 2)
    assert sorted(places[owners == number].tolist()) == [0, 2, 6]
    assert joined[runs.firsts()[number] :].startswith("ab")


def test_the_best_cover_most_text():
    codes, weights, joined = flat(["abcabc", "abd", "bd"])
    runs = repeated(codes, weights, longest=16)
    best = runs.best(2)
    cover = runs.weights * runs.lengths
    assert sorted((best.weights * best.lengths).tolist()) == sorted(cover.tolist())[-2:]
    assert set(found_in(best, joined)) <= set(found_in(runs, joined))
    assert len(runs.best(99).low) == len(runs.low)
