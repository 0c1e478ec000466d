from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from cutaway.lab.runs_page import POINTS, Told, curves, differing, flat, runs_page, thinned


def told(name: str, rate: float = 0.1, steps: int = 50) -> Told:
    lines = [
        {"step": step, "seconds": step / 10, "loss": 3 / step, "tokens_per_second": 10.0} for step in range(1, steps)
    ]
    lines[20]["val_loss"], lines[30]["val_loss"], lines[10]["loss"] = 2.0, 1.5, None
    return Told(name=name, fields={"rate": rate, "seed": 1}, lines=lines, sample="雪 & <b>snow</b>")


def test_the_page_needs_nothing_from_elsewhere():
    page = runs_page([told("one"), told("two <i>", rate=0.2)])
    for outside in ("http", "src=", "@import", "url(", "<script", "<i>", "<b>"):
        assert outside not in page, outside
    assert page.count("<polyline") == 8, "two runs; two losses; over steps and over seconds"
    assert "雪 &amp; &lt;b&gt;snow" in page and "<th>rate</th><td>0.1</td><td>0.2</td>" in page
    assert "<th>seed</th>" not in page, "what is alike is not told"
    for start in range(page.count("<svg")):
        svg = "<svg" + page.split("<svg")[start + 1].split("</svg>")[0] + "</svg>"
        ElementTree.fromstring(svg)


def test_runs_without_figures_make_a_page_too():
    assert "Training runs" in runs_page([Told(name="new", fields={}, lines=[])])


def test_curves_leave_out_what_is_no_number():
    run = told("one")
    assert len(run.curve("step", "loss")) == len(run.lines) - 1
    assert run.best("val_loss") == 1.5 and run.last("val_loss") == 1.5 and run.last("nothing") is None


@pytest.mark.parametrize("curve", [[(1.0, 2.0)], [(1.0, 2.0), (2.0, 2.0)], [(0.0, -1.0), (1.0, 3.0)], [(1.0, 0.0)]])
def test_any_curve_can_be_drawn(curve):
    lines = [{"step": x, "loss": y} for x, y in curve]
    svg = curves([Told(name="a", fields={}, lines=lines)], "step", "loss")
    ElementTree.fromstring(svg)
    assert "nan" not in svg and "inf" not in svg
    assert curves([Told(name="a", fields={}, lines=[])], "step", "loss") == ""


def test_a_long_curve_keeps_its_mean():
    curve = [(float(x), math.sin(x)) for x in range(10 * POINTS)]
    drawn = thinned(curve)
    assert len(drawn) == POINTS
    assert sum(y for _, y in drawn) / POINTS == pytest.approx(sum(y for _, y in curve) / len(curve))


def test_many_steps_are_written_out():
    lines = [{"step": step, "seconds": step / 10, "loss": 2.0} for step in (1, 2_000_000)]
    page = runs_page([Told(name="long", fields={}, lines=lines)])
    assert ">1,000,000<" in page and "e+06" not in page


def test_what_is_written_stands_beside_what_was_before():
    page = runs_page([Told(name="one", fields={}, lines=[], sample="after", before="before")])
    written = page.split("What they write")[1]
    assert written.count("display: grid") == 1 and written.index(">before<") < written.index(">after<")


def test_fields_by_their_places():
    plain = {"a": 1, "b": {"c": [2, {"d": 3}], "e": []}}
    assert flat(plain) == {"a": 1, "b.c.0": 2, "b.c.1.d": 3, "b.e": []}
    one, two = Told(name="1", fields={"a": 1, "b": 2}, lines=[]), Told(name="2", fields={"a": 1, "c": 2}, lines=[])
    assert differing([one, two]) == ["b", "c"]
