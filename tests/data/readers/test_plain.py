from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.data.readers.plain import read, split


@given(st.lists(st.text("ab\n|", max_size=6), max_size=8), st.sampled_from(["|", "\n\n", "a|b", "||", "aab"]))
def test_splitting_piece_by_piece_is_splitting_the_whole(parts, separator):
    assert list(split(parts, separator)) == "".join(parts).split(separator)


def test_a_file_is_a_document_as_it_is(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\n 你好\r\n\r\nb \n".encode())
    assert list(read(path)) == [("\n 你好\n\nb \n", str(path), 1)]
    path.write_bytes(b"")
    assert list(read(path)) == [] == list(read(path, separator="\n\n"))


def test_documents_between_separators_say_their_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\n\n\n三\n   \n\nfour\n", encoding="utf-8")
    assert [(text, place) for text, _, place in read(path, separator="\n\n")] == [
        ("one\ntwo", 1),
        ("三\n   ", 6),
        ("four", 9),
    ]
    assert [(text, place) for text, _, place in read(path, separator="\n")] == [
        ("one", 1), ("two", 2), ("三", 6), ("four", 9),
    ]  # fmt: skip
    path.write_text("a\nb<|endoftext|>\nc<|endoftext|>", encoding="utf-8")
    assert [(text, place) for text, _, place in read(path, separator="<|endoftext|>")] == [("a\nb", 1), ("c", 3)]


def test_an_empty_separator_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    with pytest.raises(BadInput, match="separator"):
        list(read(tmp_path / "a.txt", separator=""))


def test_one_giant_line_takes_time_in_proportion():
    """Read in 4,000 pieces and never searched twice: quadratic work would take minutes here."""
    assert sum(len(text) for text in split(("x" * 1000 for _ in range(4000)), "\n\n")) == 4_000_000
