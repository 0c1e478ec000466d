"""The card can fail: pages that nobody gives back, and room that is taken ahead, are found out."""

from __future__ import annotations

import pytest

from cutaway.infer.block_tables import BlockTables
from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Request
from cutaway.lab.cards import paged_waste


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(paged_waste, "REQUESTS", 60)


def test_the_trace_fits_and_is_mixed(short):
    lengths = [len(one.prompt) + one.decoding.max_tokens for one in paged_waste.trace(0)]
    assert max(lengths) <= paged_waste.LENGTH and max(lengths) > 10 * min(lengths)


def test_by_hand():
    # One request of 20 tokens and 2 more: steps with 20 and 21 tokens, in two pages of 16 each.
    found = paged_waste.wasted([Request(prompt=tuple(range(20)), decoding=Decoding(max_tokens=2))])
    # After the second step it has ended: one step is seen, with 20 tokens held.
    assert found["pages"] == pytest.approx(1 - 20 / 32)
    assert found["longest"] == pytest.approx(1 - 20 / 2048)
    assert found["power of two"] == pytest.approx(1 - 20 / 32)


def test_room_that_is_taken_ahead_is_found_out(short, monkeypatch):
    reserve = BlockTables.reserve
    monkeypatch.setattr(
        BlockTables, "reserve", lambda self, owner, tokens, ahead=0: reserve(self, owner, tokens + 48, ahead)
    )
    assert paged_waste.wasted(paged_waste.trace(0))["pages"] > 0.04
