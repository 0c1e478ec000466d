from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

import cutaway
from cutaway.base.errors import BadInput
from cutaway.cli import opening
from cutaway.cli.opening import open_language, read_text


def test_a_short_name_is_fetched_and_its_file_opened(monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setattr(opening, "bring", lambda name: tmp_path / f"{name}.gguf")
    monkeypatch.setitem(vars(cutaway), "load", lambda place, **options: loaded.append((place, options)))
    context = SimpleNamespace(meta={})
    open_language(context, "smollm2-135m", device="cpu")  # type: ignore[arg-type]
    open_language(context, "owner/name")  # type: ignore[arg-type]
    assert loaded == [
        (str(tmp_path / "smollm2-135m.gguf"), {"dtype": None, "device": "cpu"}),
        ("owner/name", {"dtype": None, "device": None}),
    ]


def test_text_is_taken_as_given_and_a_dash_reads_all_of_stdin(monkeypatch):
    assert read_text("plain - text\n") == "plain - text\n"
    for given, text in (("a\nb\n", "a\nb"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("", ""), ("中", "中")):
        monkeypatch.setattr("sys.stdin", io.StringIO(given, newline=""))
        assert read_text("-") == text


def test_bytes_that_are_no_text_are_one_line(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ok \xff"), encoding="utf-8"))
    with pytest.raises(BadInput, match=r"standard input: not UTF-8 text \(byte 3\)"):
        read_text("-")
