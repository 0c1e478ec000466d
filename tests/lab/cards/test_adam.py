"""The card sees an Adam that forgets its correction."""

from __future__ import annotations

from dataclasses import replace

from cutaway.lab.cards import adam as card
from cutaway.train.optimisers import adam


def test_an_adam_without_correction_is_found_out(monkeypatch):
    right = adam.move

    def uncorrected(form, weights, gradients, slots, pace, betas, eps):
        right(form, weights, gradients, slots, replace(pace, count=10**6), betas, eps)

    assert card.CARD.reproduce().verdict == "holds"
    monkeypatch.setattr(adam, "move", uncorrected)
    assert card.CARD.reproduce().verdict == "differs"
