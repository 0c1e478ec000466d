from __future__ import annotations

import json

import pytest

from cutaway.base.errors import BadInput
from cutaway.train.patience import Patience


def test_it_is_over_after_so_many_looks_without_progress():
    patience, over = Patience(2), []
    better = []
    for loss in (3.0, 2.0, 2.0, 1.9, 2.5, float("nan"), 1.0):
        better.append(patience.look(loss))
        over.append(patience.over)
    assert better == [True, True, False, True, False, False, True]
    assert over == [False, False, False, False, False, True, False]
    assert patience.best == 1.0


def test_small_progress_is_none():
    patience = Patience(1, least=0.1)
    assert patience.look(2.0) and not patience.look(1.95) and patience.over
    assert patience.look(1.85) and patience.best == 1.85


def test_numbers_that_are_none_are_no_progress_even_at_first():
    patience = Patience(2)
    assert not patience.look(float("nan")) and not patience.look(float("inf")) and patience.over
    assert patience.look(5.0)


def test_its_state_is_json_and_comes_back():
    for losses in ((), (2.0, 3.0)):
        patience, other = Patience(3), Patience(3)
        for loss in losses:
            patience.look(loss)
        other.load_state_dict(json.loads(json.dumps(patience.state_dict(), allow_nan=False)))
        assert (other.best, other.waited) == (patience.best, patience.waited)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 1, "least": -1.0}, {"limit": 1, "least": float("nan")}])
def test_an_impossible_one_is_refused(wrong):
    with pytest.raises(BadInput, match="Patience"):
        Patience(**wrong)
