from __future__ import annotations

from cutaway.lab.explain.speculation import SPECULATION
from cutaway.lab.explain.table import find


def test_both_are_found_by_their_other_names_too():
    assert [one.name for one in SPECULATION] == ["speculative", "early-exit"]
    assert find("Prompt Lookup") is find("投机解码") is SPECULATION[0]
    assert find("CALM") is find("提前退出") is SPECULATION[1]
