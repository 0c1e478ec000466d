"""Without the text the card is skipped; its budget is nanoGPT's."""

from __future__ import annotations

from cutaway.lab.cards import nanogpt


def test_without_data_it_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setenv("CUTAWAY_DATA", str(tmp_path))
    outcome = nanogpt.CARD.reproduce()
    assert outcome.verdict == "skipped" and "tinyshakespeare" in (outcome.missing or "")
