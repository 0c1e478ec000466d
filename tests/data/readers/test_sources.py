from __future__ import annotations

import json

import pytest

from cutaway.base.errors import BadInput, NotFound
from cutaway.data.readers.sources import ending, files, read


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    (tmp_path / "b" / "deep" / "二.md").write_text("two", encoding="utf-8")
    (tmp_path / "b" / "c.jsonl").write_text(json.dumps({"text": "three"}), encoding="utf-8")
    (tmp_path / "c.py").write_text("no text", encoding="utf-8")
    (tmp_path / ".git" / "d.txt").write_text("hidden", encoding="utf-8")
    return tmp_path


def test_a_folder_is_read_in_order_whatever_is_in_it(folder):
    assert [entry.text for entry in read([folder])] == ["one", "three", "two"]
    assert [entry.text for entry in read([folder / "b", folder / "a.txt"])] == ["three", "two", "one"]
    assert [path.name for path in files(folder)] == ["a.txt", "c.jsonl", "二.md"]


def test_a_file_named_outright_is_read_whatever_its_ending(folder):
    assert [entry.text for entry in read([folder / "c.py"])] == ["no text"]
    (folder / "d.json").write_text('{"text": "four"}', encoding="utf-8")
    assert [entry.text for entry in read([folder / "d.json"])] == ["four"]
    assert "four" not in [entry.text for entry in read([folder])]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.TXT", ".txt"), ("a.jsonl.gz", ".jsonl"), ("a.parquet", ".parquet"), ("a.py", ""), ("gz", ""), ("a.gz", "")],
)
def test_the_ending_decides(tmp_path, name, kind):
    assert ending(tmp_path / name) == kind


def test_nothing_to_read_is_said(folder, tmp_path):
    with pytest.raises(NotFound, match="no such file or folder"):
        list(read([tmp_path / "none"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no file that can be read"):
        list(read([tmp_path / "empty"]))
    (tmp_path / "void.txt").touch()
    with pytest.raises(BadInput, match=r"void.txt: the corpus is empty"):
        list(read([tmp_path / "void.txt"]))


def test_only_one_document_is_held_at_a_time(folder):
    stream = read([folder / "a.txt", folder / "none.txt"])
    assert next(stream).text == "one", "the second is not looked for before the first was handed out"
    with pytest.raises(NotFound):
        next(stream)
