"""The card compares two real forms: where one multiplies by another part of W_up, it differs."""

from __future__ import annotations

from cutaway.lab.cards import mla_absorbed
from cutaway.nn.attention.latent import LatentAttention


def test_a_wrong_absorption_is_found_out(monkeypatch):
    assert mla_absorbed.CARD.reproduce().verdict == "holds"
    up = LatentAttention._up

    def twisted(self, like):
        keys, values = up(self, like)
        return keys, values.flip(0)

    monkeypatch.setattr(LatentAttention, "_up", twisted)
    outcome = mla_absorbed.CARD.reproduce()
    assert [finding.holds for finding in outcome.findings] == [False, False, True]
