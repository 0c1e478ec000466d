from __future__ import annotations

import random

import pytest

from cutaway.base.errors import BadInput
from cutaway.infer.speculated import Speculated, expected_tokens


def test_expected_tokens_of_the_paper():
    assert expected_tokens(0.75, 7) == pytest.approx(3.5995, abs=1e-4)  # (1 - 0.75^8) / 0.25
    assert expected_tokens(0.0, 7) == 1.0 and expected_tokens(1.0, 7) == 8.0 and expected_tokens(0.5, 0) == 1.0


def test_expected_tokens_are_what_is_seen():
    draw = random.Random(0)
    counts = []
    for _ in range(20000):
        kept = 0
        while kept < 4 and draw.random() < 0.6:
            kept += 1
        counts.append(kept + 1)
    # Deviation of the mean: 1.5 / sqrt(20000) = 0.011.
    assert sum(counts) / len(counts) == pytest.approx(expected_tokens(0.6, 4), abs=0.04)


@pytest.mark.parametrize(("rate", "guesses", "field"), [(1.1, 2, "rate"), (-0.1, 2, "rate"), (0.5, -1, "guesses")])
def test_impossible_ones_are_refused(rate, guesses, field):
    with pytest.raises(BadInput, match=field):
        expected_tokens(rate, guesses)


def test_numbers_of_an_answer():
    told = Speculated(guesses=(4, 4, 0, 2), judged=7, accepted=6)
    assert (told.passes, told.proposed) == (4, 10)
    assert told.rate == pytest.approx(6 / 7) and told.per_pass == 2.5
    assert told.expected == pytest.approx(sum(expected_tokens(6 / 7, g) for g in (4, 4, 0, 2)) / 4)
    nothing = Speculated()
    assert (nothing.rate, nothing.per_pass, nothing.expected) == (None, None, None)
    assert nothing.figures["acceptance_rate"] is None and nothing.figures["proposed"] == 0


def test_several_answers_as_one():
    one, other = Speculated(guesses=(4, 2), judged=5, accepted=4), Speculated(guesses=(3,), judged=1, accepted=0)
    assert Speculated.joined([one, other]) == Speculated(guesses=(4, 2, 3), judged=6, accepted=4)
    assert Speculated.joined([]) == Speculated()
