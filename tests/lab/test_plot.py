from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from cutaway.lab.plot import COLOURS, GAP, LONGEST, WIDTH, Axis, Line, apart, beside, decades, legend, plot, ticks

LOG = Axis(title="tokens", log=True)
FLAT = Axis(title="tokens")


def test_a_power_law_is_a_straight_line_on_logarithms():
    points = [(2.0**n, 3 * 4.0**n) for n in range(5)]
    picture = ElementTree.fromstring(plot([Line(name="square", points=points, place=0)], LOG, LOG))
    line = picture.find("polyline")
    drawn = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(drawn)]
    assert all(step == pytest.approx(steps[0], abs=0.11) for step in steps), "places are rounded to tenths"
    assert steps[0][0] > 0 > steps[0][1], "right is more, and so is up"
    assert len(picture.findall("g/circle")) == 5 and picture.find("g/title").text == "square, 1: 3"


def test_each_line_has_its_colour_and_its_name_at_the_end():
    lines = [Line(name=f"<{n}>", points=[(1, 1), (10, 10 + n / 100)], place=n) for n in range(10)]
    picture = ElementTree.fromstring(plot(lines, FLAT, FLAT))
    drawn = picture.findall("polyline")
    assert [line.get("stroke") for line in drawn] == [*COLOURS, *COLOURS[:2]]
    assert [bool(line.get("stroke-dasharray")) for line in drawn] == [False] * 8 + [True] * 2
    names = [text for text in picture.findall("text") if text.get("style")]
    assert sorted(text.text for text in names) == sorted(f"<{n}>" for n in range(10))
    places = sorted(float(text.get("y")) for text in names)
    assert all(b - a >= GAP - 0.11 for a, b in pairwise(places)), "names do not lie on each other"
    assert ElementTree.fromstring(legend(["a & b", "窗口"])).tag == "p"


def test_a_long_name_is_cut_at_the_end_of_its_line_by_display_width():
    names = ["x" * LONGEST, "x" * (LONGEST + 1), "注意力" * 6]
    lines = [Line(name=name, points=[(1, n), (2, n)], place=n) for n, name in enumerate(names)]
    picture = ElementTree.fromstring(plot(lines, FLAT, FLAT))
    shown = [text.text for text in picture.findall("text") if text.get("style")]
    assert sorted(shown) == sorted(["x" * 16, "x" * 15 + "…", "注意力注意力注…"])


def test_no_more_room_is_left_for_names_than_they_take():
    def width(name: str) -> int:
        drawn = plot([Line(name=name, points=[(1.0, 2.0), (2.0, 3.0)], place=0)], Axis(title="x"), Axis(title="y"))
        return int(drawn.split('viewBox="0 0 ')[1].split()[0])

    assert width("a") < width("雪") == width("ab") < width("abcdefgh") < WIDTH == width("n" * 40)


def test_what_an_axis_cannot_show_is_left_out():
    points = [(0.0, 1.0), (1.0, 0.0), (2.0, math.nan), (3.0, 4.0), (5.0, 6.0)]
    picture = ElementTree.fromstring(plot([Line(name="a", points=points, place=0)], LOG, LOG))
    assert len(picture.find("polyline").get("points").split()) == 2
    assert plot([Line(name="a", points=[(0.0, 0.0)], place=0)], LOG, LOG) == ""
    assert plot([], LOG, LOG) == "" and beside(["", ""]).count("panel") == 0


@pytest.mark.parametrize("axis", [LOG, FLAT])
def test_a_single_point_and_a_level_line_are_drawn(axis):
    for points in ([(2.0, 3.0)], [(2.0, 3.0), (4.0, 3.0)]):
        picture = plot([Line(name="a", points=points, place=0)], axis, axis)
        assert "nan" not in picture and "inf" not in picture
        ElementTree.fromstring(picture)


def test_a_band_goes_there_and_back():
    spread = [(1.0, 1.0, 3.0), (2.0, 2.0, 5.0)]
    line = Line(name="a", points=[(1.0, 2.0), (2.0, 4.0)], place=1, spread=spread)
    picture = ElementTree.fromstring(plot([line], FLAT, FLAT))
    assert len(picture.find("polygon").get("points").split()) == 4


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.2, 9.7), (0.001, 0.0013), (0.0, 123456.0), (2.0, 2.0)])
def test_ticks_are_few_and_inside(low, high):
    found = ticks(low, high)
    assert 1 <= len(found) <= 11 and all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)


@pytest.mark.parametrize(("low", "high"), [(1.0, 9.0), (0.5, 2e4), (1e-6, 1e6), (3e-3, 8e-3), (1e-9, 1e30), (1.9, 4.2)])
def test_decades_are_few_and_inside(low, high):
    found = decades(low, high)
    assert 3 <= len(found) <= 11 and all(low * 0.999 <= tick <= high * 1.001 for tick in found)


def test_places_stay_in_order_and_in_bounds():
    found = apart([10.0, 10.0, 11.0, 100.0], 0.0, 100.0)
    assert found == sorted(found) and all(b - a >= GAP for a, b in pairwise(found))
    crowded = apart([99.0] * 30, 0.0, 100.0)
    assert crowded == sorted(crowded) and crowded[-1] <= 100.0 and crowded[0] >= -1e-9
