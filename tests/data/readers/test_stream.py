from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput, NotFound
from cutaway.data.readers.stream import opened, pieces


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.integers(1, 7))
@example("\ufeffa\ufeff", 1)
@example("a\r\nb\r", 2)
def test_pieces_of_any_size_are_the_text_as_python_reads_it(tmp_path, text, size):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode("utf-8"))
    assert "".join(pieces(path, size)) == path.read_text(encoding="utf-8").removeprefix("\ufeff")


@pytest.mark.parametrize("size", [3, 5, 1 << 20])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("好的ab".encode() + b"\xff" + "c好".encode(), r"a.txt: not UTF-8 at byte 8 \(0xff: invalid start byte\)"),
        ("ab你好".encode()[:-1], r"a.txt: not UTF-8 at byte 5 \(0xe5: unexpected end of data\)"),
        ("中文文本".encode("gb18030"), "a.txt: not UTF-8 at byte 0 "),
        (b"PK\3\4ab\0", r"a.txt: a binary file, not text \(byte 6 is zero\)"),
        ("hello".encode("utf-16"), "a.txt: UTF-16 text"),
        ("hello".encode("utf-32"), "a.txt: UTF-(16|32) text"),
    ],
)
def test_what_is_no_text_is_refused_with_its_byte(tmp_path, content, message, size):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        list(pieces(tmp_path / "a.txt", size))


def test_gzip_is_seen_through_and_its_damage_named(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("你好 ".encode() * 1000))
    assert "".join(pieces(path)) == "你好 " * 1000
    for damaged in (path.read_bytes()[:-20], b"no gzip at all", path.read_bytes()[:10] + b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"a.txt.gz: a damaged gzip file"):
            list(pieces(path))


def test_nothing_there_and_a_folder(tmp_path):
    with pytest.raises(NotFound, match="no such file"), opened(tmp_path / "none"):
        pass
    with pytest.raises(BadInput, match="is a folder"), opened(tmp_path):
        pass
