from __future__ import annotations

import re

from cutaway.lab.compare.dots import LEFT, WIDE, dot_rows


def test_a_dot_for_each_value_in_its_place_and_a_bar_at_the_mean():
    drawn = dot_rows([("a<b", [1.0, 2.0], "1.5"), ("none", [], "–")], "losses")
    low, high = (float(x) for x in re.findall(r'<circle[^>]* cx="([\d.]+)"', drawn))
    (bar,) = re.findall(r'class="cool" x="([\d.]+)"', drawn)
    assert LEFT < low < high < LEFT + WIDE
    assert abs(float(bar) + 1.5 - (low + high) / 2) < 0.2, "rounded to a tenth of a pixel"
    assert "a&lt;b" in drawn and "http" not in drawn


def test_nothing_and_one_value_are_no_trouble():
    assert dot_rows([("a", [], "–")], "losses") == ""
    assert dot_rows([("a", [2.0], "2"), ("b", [2.0], "2")], "losses").count("<circle") == 2
