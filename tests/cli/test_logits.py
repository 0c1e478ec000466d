from __future__ import annotations

import json
import math

import pytest
import torch

from cutaway.cli import logits as module
from cutaway.cli.logits import visible
from cutaway.cli.main import main

from .fakes import ScriptedLanguage, opener


@pytest.fixture
def language(monkeypatch):
    language = ScriptedLanguage()
    monkeypatch.setattr(module, "open_language", opener(language))
    return language


def test_the_table_ranks_tokens(language, capsys):
    assert main(["logits", "m", "x", "--top", "2"]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert rows[0] == ["rank", "id", "token", "logprob", "probability"] and len(rows) == 3
    assert rows[1] == ["1", "1", '"', 't1\\n"', "-0.4402", "64.39%"]
    assert rows[2][:2] == ["2", "3"] and "after 2 tokens; entropy" in captured.err


def test_one_token_is_one(language, monkeypatch, capsys):
    monkeypatch.setattr(language, "encode", lambda text: [1])
    assert main(["logits", "m", "x"]) == 0
    assert "after 1 token; entropy" in capsys.readouterr().err


def test_json_sums_and_entropy(language, capsys):
    assert main(["logits", "m", "x", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in answer["next"]] == [1, 3, 2, 0], "ten were asked for, four there are"
    shares = [row["probability"] for row in answer["next"]]
    assert sum(shares) == pytest.approx(1, abs=1e-6)  # float32 rounding
    assert answer["entropy_bits"] == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=1e-5)


def test_logits_that_are_no_numbers_are_an_error(language, capsys):
    language.logits_V = torch.tensor([0.0, math.nan])
    assert main(["logits", "m", "x"]) == 2
    assert "scripted: weights: the logits are not finite" in capsys.readouterr().err


def test_what_cannot_be_seen_is_written_out():
    assert visible(" a\n\t中\x1b") == '" a\\n\\t中\\x1b"'
