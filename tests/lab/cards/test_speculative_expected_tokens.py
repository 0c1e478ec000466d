from __future__ import annotations

import pytest

from cutaway.infer.speculated import expected_tokens
from cutaway.lab.cards.speculative_expected_tokens import RATE, tossed, wrote


def test_coins_fall_as_the_formula_says():
    # A pass deviates by 1.6: the mean of 5,000 by 0.023.
    assert tossed(0.5, 3, 5000) == pytest.approx(expected_tokens(0.5, 3), abs=0.1)
    assert tossed(0.9, 2, 5000) == pytest.approx(expected_tokens(0.9, 2), abs=0.1)


def test_a_proposer_is_right_as_often_as_it_was_made_to():
    told = wrote(145, rate=1.0, guesses=3)  # one behind the prompt, then 36 times four
    assert told.rate == 1.0 and told.per_pass == 4.0
    blunt = wrote(150, rate=RATE, guesses=3)
    assert blunt.rate == pytest.approx(RATE, abs=0.2) and blunt.guesses[0] == 3  # five deviations of some 130 guesses
