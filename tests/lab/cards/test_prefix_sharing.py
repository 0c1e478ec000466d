"""The card can fail: an engine that shares nothing reads all of it, one that shares what differs answers wrongly."""

from __future__ import annotations

import itertools

from cutaway.infer import request
from cutaway.infer.block_tables import BlockTables
from cutaway.lab.cards import prefix_sharing
from cutaway.lab.cards.random_weights import drawn


def test_an_engine_that_shares_nothing_is_found_out(monkeypatch):
    monkeypatch.setattr(BlockTables, "_beginning", lambda self, keys, most: [])
    alone, together, same, *_, pages, waited = prefix_sharing.CARD.reproduce().findings
    assert alone.holds and same.holds and not together.holds and not pages.holds and not waited.holds


def test_an_engine_that_shares_what_differs_is_found_out(monkeypatch):
    # Keys that count pages and do not look into them; each engine starts anew.
    keys = lambda tokens, page, known=(), salt=b"": [bytes([at]) for at in range(len(tokens) // page)]  # noqa: E731
    monkeypatch.setattr(request, "keys", keys)
    asked = [
        request.Request(prompt=(first, *range(40)), decoding=prefix_sharing.Decoding(max_tokens=4))
        for first in range(8)
    ]
    module = drawn(prefix_sharing.SPEC, prefix_sharing.DEVIATION)
    together, read, *_ = prefix_sharing.served(module, asked)
    alone = [prefix_sharing.served(module, [one])[0][0] for one in asked]
    assert read < 8 * 41
    assert any(ours.answer != theirs.answer for ours, theirs in zip(together, alone, strict=True))
    assert len(set(itertools.chain(*(one.answer for one in alone)))) > 1
