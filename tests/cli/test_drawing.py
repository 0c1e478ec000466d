from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.text import Text

from cutaway.cli.drawing import Cells, bar, cached, clipped, counted, fitted, quoted


@pytest.mark.parametrize(
    ("share", "drawn"), [(0.0, ""), (1e-6, "▏"), (0.5, "████"), (1.0, "████████"), (0.0625, "▌"), (0.19, "█▌")]
)
def test_bars(share, drawn):
    assert bar(share) == drawn


def test_text_is_cut_by_display_width():
    assert clipped("capital", 7) == "capital"
    assert clipped("capitals", 7) == "capita…"
    for width in range(2, 8):
        assert cell_len(clipped("法国的首都", width)) <= width
    assert clipped("法国的首都", 6) == "法国…"


def test_columns_give_way_one_by_one():
    def column(title: str, width: int, gives_way: int = 0) -> Cells:
        return Cells(title=title, cells=[Text("x" * width)], gives_way=gives_way)

    columns = [column("a", 10), column("b", 10, 1), column("c", 10, 3), column("d", 10, 2)]
    names = ["".join(one.title for one in fitted(columns, width)) for width in (None, 46, 45, 34, 33, 22, 21, 1)]
    assert names == ["abcd", "abcd", "abd", "abd", "ab", "ab", "a", "a"]


def test_nothing_is_a_dash():
    assert (counted(0), cached(0.0)) == ("-", "-")
    assert (counted(1500), cached(1536.0)) == ("1.5K", "1.5 kB")


def test_a_piece_cannot_take_over_the_terminal():
    assert quoted("a\x1b[2Jb") == '"a[2Jb"'
