from __future__ import annotations

import json

import pytest

from cutaway.cli.main import main
from cutaway.lab.explain.table import EXPLANATIONS


def test_all_are_listed(capsys):
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    for name, one in EXPLANATIONS.items():
        assert f" {name} " in out and one.title in out
    assert main(["explain", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["explanations"]
    assert [row["name"] for row in listed] == list(EXPLANATIONS)


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_every_one_is_shown_whole(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["explain", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines), "too wide, or spaces at the end of a line"
    one, out = EXPLANATIONS[name], " ".join(" ".join(lines).split())
    for text in (one.title, one.what, one.equation, *one.papers, *one.files):
        assert " ".join(text.split()) in out
    assert "\x1b" not in out


def test_the_cost_is_worked_out(capsys):
    main(["explain", "grouped-query"])
    assert "2·D·H·K + 2·D·G·K = 2·576·9·64 + 2·576·3·64 = 884,736" in capsys.readouterr().out


def test_as_json(capsys):
    assert main(["explain", "swiglu", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "gated"
    assert shown["cost"][0] == {
        "what": "parameters of one block's",
        "formula": "3·D·F",
        "numbers": "3·576·1536",
        "result": 3 * 576 * 1536,
        "unit": "",
    }


def test_a_misspelt_name_is_one_line_and_exit_code_2(capsys):
    assert main(["explain", "grouped-qury"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == 'error: nothing here is called "grouped-qury"; did you mean "grouped-query"?\n'
