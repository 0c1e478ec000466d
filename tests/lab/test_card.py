"""A card's verdict follows its numbers, and absent data is no verdict."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.lab.card import AtLeast, AtMost, Card, Finding, Near, NoData, figure


def card(compute) -> Card:
    return Card(name="a", claim="b", source="c", computed="d", tolerance="e", seconds=1, compute=compute)


@pytest.mark.parametrize(
    "expected, right, wrong",
    [
        (Near(value=10.0, tolerance=0.1), 10.9, 11.2),
        (Near(value=-10.0, tolerance=0.1), -9.1, 10.0),
        (Near(value=124.0), 124, 125),
        (AtLeast(value=2.0), 2.0, 1.9),
        (AtMost(value=2.0), 2.0, 2.1),
    ],
)
def test_a_number_holds_or_differs(expected, right, wrong):
    for ours, verdict in ((right, "holds"), (wrong, "differs"), (float("nan"), "differs")):
        found = card(lambda ours=ours: (Finding(what="x", expected=expected, ours=ours),)).reproduce()
        assert found.verdict == verdict


def test_one_wrong_number_is_enough():
    good, bad = (Finding(what="x", expected=Near(value=1.0), ours=ours) for ours in (1.0, 2.0))
    assert card(lambda: (good, bad)).reproduce().verdict == "differs"


def test_absent_data_skips():
    def compute():
        raise NoData("tinyshakespeare is not here")

    outcome = card(compute).reproduce()
    assert outcome.verdict == "skipped" and outcome.missing == "tinyshakespeare is not here"


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        card(lambda: 1 / 0).reproduce()


def test_a_card_without_numbers_shows_nothing():
    with pytest.raises(BadInput, match="finds nothing"):
        card(tuple).reproduce()


def test_a_negative_tolerance_is_refused():
    with pytest.raises(BadInput, match="tolerance"):
        Near(value=1.0, tolerance=-0.1)


def test_figures_read_well():
    assert [figure(124439808.0), figure(3.16227), figure(16.6)] == ["124,439,808", "3.162", "16.6"]


def test_what_went_wrong_is_an_outcome_where_others_follow():
    found = card(lambda: 1 / 0).attempt()
    assert (found.verdict, found.failure) == ("failed", "ZeroDivisionError: division by zero")

    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        card(stopped).attempt()


def test_an_outcome_says_how_long_it_took(monkeypatch):
    times = iter((5.0, 7.5))
    monkeypatch.setattr("cutaway.lab.card.time.perf_counter", lambda: next(times))
    assert card(lambda: (Finding(what="x", expected=Near(value=1.0), ours=1.0),)).reproduce().seconds == 2.5
