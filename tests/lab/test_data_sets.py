"""Data are found where the variable says, or beside; else the reader is told of the variable."""

from __future__ import annotations

import pytest

from cutaway.lab.card import NoData
from cutaway.lab.data_sets import found


def test_the_variable_comes_first(tmp_path, monkeypatch):
    for folder in ("mine", "here/data"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text("x", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("CUTAWAY_DATA", raising=False)
    assert found("a.txt").resolve() == tmp_path / "here" / "data" / "a.txt"
    monkeypatch.setenv("CUTAWAY_DATA", str(tmp_path / "mine"))
    assert found("a.txt") == tmp_path / "mine" / "a.txt"


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CUTAWAY_DATA", str(tmp_path))
    with pytest.raises(NoData, match=r"b\.txt.*CUTAWAY_DATA"):
        found("b.txt")
