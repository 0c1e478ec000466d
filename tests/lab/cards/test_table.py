"""Every card is found by its name, says where its claim stands, and the quick ones hold."""

from __future__ import annotations

import re

import pytest

from cutaway.base.errors import NotFound
from cutaway.lab.cards.table import CARDS, find


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.seconds <= 3])
def test_quick_cards_hold(name):
    outcome = CARDS[name].reproduce()
    assert outcome.verdict in ("holds", "skipped"), [(one.what, one.ours) for one in outcome.findings]


@pytest.mark.proof
@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.seconds > 3])
def test_longer_cards_hold(name):
    outcome = CARDS[name].reproduce()
    assert outcome.verdict in ("holds", "skipped"), [(one.what, one.ours) for one in outcome.findings]


def test_every_card_says_where_its_claim_stands():
    for name, card in CARDS.items():
        assert name == card.name and card.claim.endswith(".") and card.seconds >= 1
        assert re.search(r"\b(19|20)\d\d\b|README", card.source), card.source


def test_all_of_them_take_less_than_a_quarter_of_an_hour():
    assert sum(card.seconds for card in CARDS.values()) <= 10 * 60  # of two idle cores; others may be half as fast


def test_an_unknown_card_is_met_with_the_nearest():
    with pytest.raises(NotFound, match="adam-bias-correction"):
        find("adam-bias")
