"""The card follows the cache: a rotated key for every head is found out."""

from __future__ import annotations

from dataclasses import replace

from cutaway.lab.cards import mla_cache
from cutaway.nn.positions import Rope


def test_another_width_is_found_out(monkeypatch):
    assert mla_cache.CARD.reproduce().verdict == "holds"
    monkeypatch.setattr(mla_cache, "LATENT", replace(mla_cache.LATENT, rope=Rope(width=66)))
    assert mla_cache.CARD.reproduce().verdict == "differs"
