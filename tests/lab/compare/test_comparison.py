from __future__ import annotations

from xml.etree import ElementTree

import pytest

from cutaway.base.errors import BadInput
from cutaway.lab.compare.comparison import Cell, Table

TABLE = Table(title="Parts", columns=("part", "bytes"), rows=(("a<b", "1"), ("窗口", "20")), note="note")


def test_a_table_is_read_from_both_sides():
    rows = ElementTree.fromstring(TABLE.section().body).findall("table/tr")
    assert [[cell.text for cell in row] for row in rows] == [["part", "bytes"], ["a<b", "1"], ["窗口", "20"]]
    assert [cell.get("style") for cell in rows[1]] == [None, "text-align:right"]
    assert TABLE.markdown().splitlines()[2:5] == ["| part | bytes |", "| --- | ---: |", "| a<b | 1 |"]
    assert TABLE.markdown().endswith("\n\nnote\n")


def test_what_cannot_be_is_refused():
    with pytest.raises(BadInput, match="2 columns"):
        Table(title="", columns=("a", "b"), rows=(("1",),))
    with pytest.raises(BadInput):
        Cell(key="", about="", seconds=1.0, measure=dict)
    with pytest.raises(BadInput):
        Cell(key="a", about="", seconds=-1.0, measure=dict)
