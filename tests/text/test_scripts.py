from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.text import scripts


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("▁don't", ["▁don", "'", "t"]),
        ("▁(hello)", ["▁(", "hello", ")"]),
        ("日本語テストです。", ["日本語テストです", "。"]),
        ("カート", ["カート"]),
        ("你好world", ["你好", "world"]),
        ("ab12,3", ["ab", "12,3"]),
        ("e\u0301cole", ["e\u0301cole"]),
        ("naïveπ", ["naïve", "π"]),
        ("▁\n\nx", ["▁\n\n", "x"]),
        ("ＡＢab", ["ＡＢab"]),
        ("👩\u200d🚀", ["👩\u200d🚀"]),
        ("a▁b", ["a", "▁b"]),
    ],
)
def test_no_piece_reaches_across(word, parts):
    assert scripts.stretches(word) == parts


@given(text=st.text())
def test_nothing_is_lost(text):
    marked = text.replace(" ", "▁")
    words = scripts.words(marked)
    assert "".join(words) == marked
    assert all("▁" not in word[1:] for word in words)
    assert "".join(part for word in words for part in scripts.stretches(word)) == marked


def test_stretches_are_counted_over_all_words():
    assert scripts.count(["▁a-b▁a", "▁a"]) == {"▁a": 3, "-": 1, "b": 1}
    assert scripts.stretched({"▁a-b": 2, "a": 1}) == {"▁a": 2, "-": 2, "b": 2, "a": 1}
