"""The card follows the plan: another number of bytes for a gradient is found out."""

from __future__ import annotations

from dataclasses import replace

from cutaway.lab import plan
from cutaway.lab.cards import zero


def test_gradients_in_float32_are_found_out(monkeypatch):
    assert zero.CARD.reproduce().verdict == "holds"
    monkeypatch.setitem(plan.PRECISIONS, "mixed", replace(plan.PRECISIONS["mixed"], gradient=4))
    assert zero.CARD.reproduce().verdict == "differs"
