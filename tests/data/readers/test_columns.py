from __future__ import annotations

import sys

import pytest

from cutaway.base.errors import BadInput, MissingExtra, NotFound
from cutaway.data.readers.columns import read

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `data`")
parquet = pytest.importorskip("pyarrow.parquet")

TEXTS = ["a", None, "你好", "", "😀" * 50] * 2000


@pytest.fixture(params=["parquet", "stream", "file"])
def path(request, tmp_path):
    """One table in each form that is read."""
    table = pyarrow.table({"text": TEXTS, "n": list(range(len(TEXTS)))})
    if request.param == "parquet":
        parquet.write_table(table, tmp_path / "a.parquet", row_group_size=3000)
        return tmp_path / "a.parquet"
    make = pyarrow.ipc.new_stream if request.param == "stream" else pyarrow.ipc.new_file
    with make(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=700)
    return tmp_path / "a.arrow"


def test_texts_come_with_their_rows_and_empty_cells_do_not(path):
    expected = [(text, str(path), row) for row, text in enumerate(TEXTS, start=1) if text is not None]
    assert list(read(path)) == expected


def test_a_wrong_column_is_named(path):
    with pytest.raises(BadInput, match=r'no column "txet"; did you mean "text"\?'):
        list(read(path, field="txet"))
    with pytest.raises(BadInput, match="row 1: n: must be text, not int"):
        list(read(path, field="n"))


def test_bytes_that_are_no_text_are_named_by_their_row(tmp_path):
    cells = pyarrow.array([b"good", None, b"\xff"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": cells}), tmp_path / "a.parquet")
    entries = read(tmp_path / "a.parquet")
    assert next(entries).text == "good"
    with pytest.raises(BadInput, match=r"a.parquet: row 3: text: not UTF-8 \(invalid start byte\)"):
        list(entries)


def test_an_ending_in_capitals_is_the_same_ending(path):
    renamed = path.rename(path.with_suffix(path.suffix.upper()))
    assert [entry.text for entry in read(renamed)] == [text for text in TEXTS if text is not None]


def test_damage_is_one_line(path):
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInput, match=f"{path.name}: damaged"):
        list(read(path))
    path.write_bytes(b"")
    with pytest.raises(BadInput, match=f"{path.name}: damaged"):
        list(read(path))
    with pytest.raises(NotFound):
        list(read(path.with_name("none.parquet")))


def test_without_pyarrow_it_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"cutaway\[data\]"):
        list(read(path))
