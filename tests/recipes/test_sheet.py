from __future__ import annotations

import gzip

import pytest

from cutaway.base.errors import BadInput, NotFound
from cutaway.recipes.sheet import Sheet


def test_columns_of_a_sheet_packed_or_not(tmp_path):
    text = "\n".join(f"x\t古文{at}\t今文 {at}\u2028." for at in range(200)) + "\n"
    (tmp_path / "a.tsv").write_text(text, encoding="utf-8")
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(text.encode("utf-8")))
    found = [
        Sheet(path=str(tmp_path / name), source=1, target=2, validation=0.2).read() for name in ("a.tsv", "a.tsv.gz")
    ]
    assert found[0] == found[1]
    training, held = found[0]
    assert len(training) + len(held) == 200 and 20 < len(held) < 60
    assert all(target.startswith("今文 ") and target.endswith("\u2028.") for _, target in training + held)


def test_long_pairs_are_left_out(tmp_path):
    rows = [f"a{at}\t{'b' * (at + 1)}" for at in range(100)]
    (tmp_path / "a.tsv").write_text("\n".join(rows), encoding="utf-8")
    training, held = Sheet(path=str(tmp_path / "a.tsv"), longest=50, validation=0.3).read()
    assert len(training) + len(held) == 50


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.tsv", b"one\ttwo\nonly one\n", "line 2: has 1 columns"),
        ("a.tsv", b"\xffx\ty", "no UTF-8 text: byte 0"),
        ("a.tsv.gz", b"no gzip", "no whole gzip file"),
        ("a.tsv.gz", gzip.compress(b"a\tb\n" * 9, mtime=0)[:-9], "no whole gzip file"),
        ("a.tsv", b"", "too few pairs"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, data, told):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=told):
        Sheet(path=str(tmp_path / name)).read()


def test_a_sheet_that_is_not_there():
    with pytest.raises(NotFound):
        Sheet(path="nowhere.tsv").read()
