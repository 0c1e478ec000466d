"""The card counts what a pass reads, not what it is told."""

from __future__ import annotations

from dataclasses import replace

from cutaway.lab.cards import nsa_tokens_read
from cutaway.lab.cards.nsa_tokens_read import CARD, SIZES, read


def test_a_pass_reads_what_the_value_says():
    small = replace(SIZES, block=4, stride=2, select=4, top_k=3, window=5)
    assert read(small, 41) == sum(small.reads(41)) == 19 + 9 + 5


def test_one_block_more_or_less_is_found_out(monkeypatch):
    assert CARD.reproduce().verdict == "holds"
    monkeypatch.setattr(nsa_tokens_read, "SIZES", replace(SIZES, window=513))
    assert CARD.reproduce().verdict == "differs"
