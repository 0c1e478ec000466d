"""Figures of the engine as a page shows them."""

from __future__ import annotations

from collections import deque

from cutaway.infer.ask import Stats
from cutaway.serve.pages.figures import SHOWN, curve, told
from cutaway.serve.pages.words import ENGLISH


def test_each_figure_has_a_name_and_a_text():
    shown = told(Stats(pages=512, pages_held=6, written_tokens=12345, proposed=8, accepted=6))
    assert set(shown) == set(SHOWN) <= set(ENGLISH)
    assert (shown["pages"], shown["written_tokens"], shown["guesses"]) == ("6 / 512", "12,345", "6 / 8 (75%)")
    assert told(Stats())["guesses"] == "0 / 0"


def test_the_curve_reaches_from_its_floor_to_its_top():
    drawn = curve(deque([0.0, 5.0, 10.0]))
    assert '"0,40.0 1,21.0 2,2.0"' in drawn
    assert "nan" not in curve(deque([0.0, 0.0]))
