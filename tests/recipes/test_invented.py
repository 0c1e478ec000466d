from __future__ import annotations

import random
from datetime import date, datetime

import pytest

from cutaway.base.errors import BadInput
from cutaway.recipes.invented import Invented, backwards, dated


def test_words_come_out_backwards_and_dates_come_out_right():
    draw = random.Random(0)
    for _ in range(300):
        source, target = backwards(draw, 8)
        assert source.removeprefix("reverse: ")[::-1] == target and 3 <= len(target) <= 8
        source, target = dated(draw)
        when = date.fromisoformat(target)
        spelled = source.removeprefix("date: ")
        assert str(when.year) in spelled and str(when.day) in spelled
        for form in ("%d %B %Y", "%d %b %Y", "%b %d, %Y", "%d/%m/%Y", "%Y.%m.%d"):
            try:
                assert datetime.strptime(spelled, form).date() == when
            except ValueError:
                continue


def test_no_example_is_in_both_parts_and_a_seed_says_which():
    training, held = Invented(count=200, held=50).read()
    assert len(training) == 200 and len(held) == 50
    assert not {source for source, _ in training} & {source for source, _ in held}
    assert Invented(count=200, held=50).read() == (training, held)
    assert Invented(count=200, held=50, seed=1).read()[1] != held


def test_impossible_counts_are_refused():
    with pytest.raises(BadInput):
        Invented(count=0)
