"""Bounds name the value and the field that break them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cutaway.base.bounds import at_least, fractions
from cutaway.base.errors import BadInput


@dataclass(frozen=True)
class Told:
    rate: float = 1.0
    betas: tuple[float, ...] = (0.0, 0.99)
    window: int | None = None


def test_what_is_within_them():
    at_least(Told(), 1.0, "rate", "window")
    fractions(Told(), "betas")
    fractions(Told(rate=0.0), "rate")


@pytest.mark.parametrize("rate", [0.9, float("nan"), float("inf")])
def test_below(rate):
    with pytest.raises(BadInput, match=r"Told\.rate: must be at least 1"):
        at_least(Told(rate=rate), 1.0, "rate")


@pytest.mark.parametrize("betas", [(1.0,), (0.5, -0.1), (float("nan"),)])
def test_no_fraction(betas):
    with pytest.raises(BadInput, match=r"Told\.betas: must be in"):
        fractions(Told(betas=betas), "betas")
