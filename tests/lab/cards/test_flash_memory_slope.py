"""The card holds, and does not for an attention that keeps its scores."""

from __future__ import annotations

import pytest

from cutaway.lab.cards import flash_memory_slope as module
from cutaway.ops.attend import attend_readable


@pytest.mark.proof
def test_the_slopes_are_two_and_one():
    assert module.CARD.reproduce().verdict == "holds"


def test_scores_that_are_kept_are_seen(monkeypatch):
    monkeypatch.setattr(module, "attend_tiled", attend_readable)
    monkeypatch.setattr(module, "TOKENS", (128, 256))
    assert [finding.holds for finding in module.CARD.reproduce().findings][1:] == [False, False]
