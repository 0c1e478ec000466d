from __future__ import annotations

import json

import pytest

from cutaway.cli.main import main


@pytest.fixture
def files(root):
    return [str(root / "tests" / "data" / name) for name in ("english.txt", "chinese.txt")]


def test_kinds_and_named_ones_stand_beside_each_other(files, tmp_path, capsys):
    assert main(["tokenizer", "train", files[0], "--vocab", "300", "--to", str(tmp_path / "mine")]) == 0
    capsys.readouterr()
    order = ["compare", "tokenizers", *files, "--vocab", "450", "--with", str(tmp_path / "mine")]
    assert main(order) == 0
    captured = capsys.readouterr()
    lines = [line.split() for line in captured.out.splitlines()]
    assert lines[0] == ["text", "tokenizer", "vocabulary", "bytes/token", "tokens/unit", "unknown", "in", "bytes"]
    assert len(lines) == 11 and lines[1][0] == "English" and lines[6][0] == "Chinese"
    assert main([*order, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == {"bpe", "wordpiece", "unigram", "character", str(tmp_path / "mine")}
    mine = next(row for row in rows if row["name"].endswith("mine") and row["language"] == "Chinese")
    assert mine["in_bytes"] > 0.9, "a vocabulary of English writes Chinese in bytes"


def test_what_is_missing_is_said(files, capsys):
    assert main(["compare", "tokenizers", files[0], "--vocab", "450"]) == 0
    captured = capsys.readouterr()
    assert "there is no Chinese in this text" in captured.err and "Chinese" not in captured.out


def test_errors_come_before_the_work(files, tmp_path, capsys):
    assert main(["compare", "tokenizers", files[0], "--with", str(tmp_path)]) == 1
    assert "training" not in capsys.readouterr().err
    assert main(["compare", "tokenizers", str(tmp_path / "none.txt")]) == 1
    assert main(["compare"]) == 0
    assert "tokenizers" in capsys.readouterr().out
