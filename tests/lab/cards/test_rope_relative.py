"""The card can fail: a rotation that is not the same everywhere is found out."""

from __future__ import annotations

import torch

from cutaway.lab.cards import rope_relative


def test_a_rotation_that_bends_is_found_out(monkeypatch):
    assert rope_relative.CARD.reproduce().verdict == "holds"
    rotate = rope_relative.rotate_readable
    ramp = torch.linspace(1.0, 1.01, rope_relative.LENGTH, dtype=torch.float64)[:, None, None]
    monkeypatch.setattr(
        rope_relative, "rotate_readable", lambda x, cos, sin, **told: rotate(x, cos, ramp * sin, **told)
    )
    outcome = rope_relative.CARD.reproduce()
    assert not any(finding.holds for finding in outcome.findings[: len(rope_relative.ROPES)])
