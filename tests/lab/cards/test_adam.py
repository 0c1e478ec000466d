"""The card sees an Adam that forgets its correction."""

from __future__ import annotations

from dataclasses import replace

from cutaway.lab.cards import adam as card
from cutaway.train.optimisers import adam


def test_an_adam_without_correction_is_found_out(monkeypatch):
    right = adam.adam

    def uncorrected(weight, gradient, first, second, pace, betas, eps):
        right(weight, gradient, first, second, replace(pace, count=10**6), betas, eps)

    assert card.CARD.reproduce().verdict == "holds"
    monkeypatch.setattr(adam, "adam", uncorrected)
    assert card.CARD.reproduce().verdict == "differs"
