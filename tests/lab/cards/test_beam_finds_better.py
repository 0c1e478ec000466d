"""The card can fail: a search that keeps the worst beginnings, or miscounts, is found out."""

from __future__ import annotations

from cutaway.infer import beams
from cutaway.lab.cards import beam_finds_better


def test_a_search_that_keeps_the_worst_is_found_out(monkeypatch):
    extend = beams.Beams.extend

    def backwards(self, continuations):
        extend(self, list(continuations)[::-1])

    monkeypatch.setattr(beam_finds_better, "MODELS", 8)
    monkeypatch.setattr(beam_finds_better, "WIDTHS", (2, 4, 6**3))
    monkeypatch.setattr(beams.Beams, "extend", backwards)
    _, _, two, four, *_ = beam_finds_better.CARD.reproduce().findings
    assert not two.holds and not four.holds


def test_a_text_likelier_than_all_is_found_out(monkeypatch):
    found = beam_finds_better.found
    monkeypatch.setattr(beam_finds_better, "MODELS", 3)
    monkeypatch.setattr(beam_finds_better, "found", lambda one, prompt, width: found(one, prompt, width) + 0.01)
    *_, whole, beyond = beam_finds_better.CARD.reproduce().findings
    assert not whole.holds and not beyond.holds
