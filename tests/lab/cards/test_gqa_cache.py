"""The card follows the cache: values that are not kept are found out."""

from __future__ import annotations

from cutaway.lab.cards import gqa_cache
from cutaway.nn.attention.grouped import GroupedQuery


def test_a_cache_without_values_is_found_out(monkeypatch):
    assert gqa_cache.held(32) == 2 * 32 * 128 * 2 * 32 * 32_768
    streams = GroupedQuery.streams
    monkeypatch.setattr(GroupedQuery, "streams", lambda self, dim: streams(self, dim)[:1])
    assert gqa_cache.CARD.reproduce().verdict == "differs"
