"""The card can fail: scales a tenth too wide, and levels that are cut off, are found out."""

from __future__ import annotations

import pytest

from cutaway.lab.cards import int4_group_error
from cutaway.ops.blocks import absmax


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_a_wrong_scale_is_found_out(factor, monkeypatch):
    upwards = absmax.upwards
    monkeypatch.setattr(absmax, "upwards", lambda scale: upwards(scale * factor))
    outcome = int4_group_error.CARD.reproduce()
    assert not all(finding.holds for finding in outcome.findings[:4])
    assert outcome.findings[-1].holds == (factor > 1), "what is cut off is further away than half a step"
