from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from cutaway.lab.plot import GAP
from cutaway.lab.roofline import HEIGHT, WIDTH, Dot, Peak, roofline

PEAKS = [Peak(name="fp32 & more", rate=1e11), Peak(name="int8", rate=4e11)]


def dot(name: str, across: float, up: float, place: int = 0, **told) -> Dot:
    return Dot(name=name, about=f"about <{name}>", across=across, up=up, place=place, **told)


def drawn(dots, bandwidth=2e10, peaks=PEAKS) -> ElementTree.Element:
    return ElementTree.fromstring(roofline(dots, bandwidth, peaks))


def circles(picture):
    return [(float(one.get("cx")), float(one.get("cy"))) for one in picture.findall("g/circle")]


def roofs(picture):
    """Start and end of each line."""
    paths = [one.get("d") for one in picture.findall("path") if one.get("class") == "roof"]
    slope, *levels = paths
    start, end = (tuple(map(float, point.split(","))) for point in slope.removeprefix("M").split("L"))
    return start, end, [tuple(map(float, level.removeprefix("M").partition("H")[0].split(","))) for level in levels]


def test_a_dot_on_a_limit_is_drawn_on_its_line():
    """0.5 operations a byte at the whole bandwidth; above the ridge (20) at the whole rate."""
    picture = drawn([dot("slope", 0.5, 0.5 * 2e10), dot("level", 64, 4e11), dot("low", 0.5, 1e8)])
    start, end, levels = roofs(picture)
    found = dict(zip(("level", "slope", "low"), sorted(circles(picture), key=lambda at: at[1]), strict=True))
    along, down = found["slope"]
    share = (along - start[0]) / (end[0] - start[0])
    assert down == pytest.approx(start[1] + share * (end[1] - start[1]), abs=0.3)
    assert found["level"][1] == pytest.approx(levels[1][1], abs=0.11) == end[1]
    assert found["low"][0] == pytest.approx(along, abs=0.11) and found["low"][1] > down, "less is lower"


def test_a_level_begins_where_the_slope_meets_it():
    picture = drawn([dot("a", 1, 1e9)])
    start, end, levels = roofs(picture)
    for along, down in levels:
        share = (along - start[0]) / (end[0] - start[0])
        assert down == pytest.approx(start[1] + share * (end[1] - start[1]), abs=0.3)
    texts = [one.text for one in picture.findall("text")]
    assert {"fp32 & more", "int8", "memory, 20 GB/s"} <= set(texts)


def test_names_of_one_column_do_not_lie_on_each_other():
    dots = [dot(f"step{n}", 3.56, 5e10 * (1 + n / 1000), n) for n in range(6)]
    picture = drawn(dots)
    names = [one for one in picture.findall("text") if (one.text or "").startswith("step")]
    places = sorted(float(one.get("y")) for one in names)
    assert len(names) == 6 and all(b - a >= GAP - 0.11 for a, b in pairwise(places))
    assert len({one.get("style") for one in names}) == 6


def test_everything_is_on_the_picture_whatever_the_numbers():
    dots = [dot("slow", 0.0625, 1e4), dot("窗口窗口窗口", 4096, 9e12, hollow=True)]
    picture = drawn(dots)
    for along, down in circles(picture):
        assert 0 < along < WIDTH and 0 < down < HEIGHT
    assert [one.get("fill").startswith("var") for one in picture.findall("g/circle")] == [False, True]
    last = next(one for one in picture.findall("text") if one.text == "窗口窗口窗口")
    assert last.get("text-anchor") == "start" or float(last.get("x")) < WIDTH
    assert picture.find("g/title").text == "about <slow>"


@pytest.mark.parametrize(
    ("dots", "bandwidth", "peaks"), [([], 1e9, PEAKS), ([dot("a", 1, 1)], 0.0, PEAKS), ([dot("a", 1, 1)], 1e9, [])]
)
def test_without_limits_or_dots_there_is_no_picture(dots, bandwidth, peaks):
    assert roofline(dots, bandwidth, peaks) == ""


def test_logarithms_are_of_ten():
    picture = drawn([dot("a", 1, 1e9), dot("b", 10, 1e10), dot("c", 100, 1e11)])
    (x1, y1), (x2, y2), (x3, y3) = sorted(circles(picture))
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2) and y1 - y2 == pytest.approx(y2 - y3, abs=0.2)
    assert math.isfinite(x1)
