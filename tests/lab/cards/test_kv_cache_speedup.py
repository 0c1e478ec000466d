"""The card can fail: a cache that forgets writes another text, and one that is not used saves nothing."""

from __future__ import annotations

import pytest

from cutaway.lab.cards import kv_cache_speedup
from cutaway.nn.cache import ContiguousCache


def test_a_cache_that_forgets_is_found_out(monkeypatch):
    class Forgetful(ContiguousCache):
        def read(self, layer, name):
            rows, (count,) = super().read(layer, name)
            rows = rows.clone()
            rows[: count // 2] = 0
            return rows, (count,)

    monkeypatch.setattr(kv_cache_speedup, "TOKENS", 12)
    monkeypatch.setattr(kv_cache_speedup, "ContiguousCache", Forgetful)
    fewer, same, *_ = kv_cache_speedup.CARD.reproduce().findings
    assert fewer.holds and not same.holds


def test_reading_all_of_it_again_is_found_out(monkeypatch):
    monkeypatch.setattr(kv_cache_speedup, "TOKENS", 12)
    monkeypatch.setattr(kv_cache_speedup, "with_cache", kv_cache_speedup.without)
    fewer, same, *_, faster = kv_cache_speedup.CARD.reproduce().findings
    assert same.holds and not fewer.holds and fewer.ours == pytest.approx(1.0)
    assert not faster.holds
