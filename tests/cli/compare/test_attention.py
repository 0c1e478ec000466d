from __future__ import annotations

import json

import pytest

from cutaway.cli.compare import measuring
from cutaway.cli.main import main
from cutaway.lab.compare import attention

ORDER = ["compare", "attention", "--parts", "mha, gqa:2", "--context", "64,1k", "--dim", "64", "--heads", "4"]


@pytest.fixture
def asked(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    orders = []

    def ask(module, order, *, threads):
        orders.append(order)
        return {"prefill_seconds": 0.5, "decode_seconds": 0.25, "peak_bytes": 1000, "threads": threads}

    monkeypatch.setattr(attention, "ask", ask)
    return orders


def test_a_table_a_page_and_a_folder(asked, tmp_path, capsys, monkeypatch):
    typed = ["cutaway", *ORDER, "--run", "/home/me/x", "--out=/home/me/y.md", "--threads", "1"]
    monkeypatch.setattr("sys.argv", typed)
    assert main([*ORDER, "--threads", "1", "--out", "out/table.md"]) == 0
    captured = capsys.readouterr()
    lines = [line.split() for line in captured.out.splitlines()]
    assert lines[0][:3] == ["part", "context", "parameters"] and len(lines) == 5
    assert lines[1][:2] == ["mha", "64"] and lines[4][0] == "1,024"
    assert "4 cells to measure, about" in captured.err and "page.html" in captured.err
    assert [(order["part"], order["context"], order["threads"]) for order in asked] == [
        *(("mha", 64, 1), ("mha", 1024, 1), ("gqa:2", 64, 1), ("gqa:2", 1024, 1))
    ]
    folder = tmp_path / "comparisons" / "attention"
    assert {path.name for path in folder.iterdir()} >= {"comparison.json", "cells.jsonl", "page.html"}
    written = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert written.startswith("# Attention compared, 20")
    assert "/home/me" not in written and "--dim 64 --heads 4 --threads 1`" in written
    assert "| mha | 64 |" in written and "torch" in written
    assert (tmp_path / "out" / "table.html").read_bytes() == (folder / "page.html").read_bytes()


def test_a_second_time_it_shows_what_is_there(asked, capsys):
    order = [*ORDER, "--threads", "1", "--run", "mine", "--json"]
    assert main(order) == 0
    first = capsys.readouterr().out
    assert main(order) == 0
    captured = capsys.readouterr()
    assert captured.out == first and "all 4 cells are there already" in captured.err and len(asked) == 4
    figures = json.loads(first)
    assert figures["cells"]["mha at 64"]["prefill_seconds"] == 0.5
    assert figures["comparison"]["contexts"] == [64, 1024]
    assert main([*order, "--seed", "7"]) == 2
    assert "mine: seed: is 0 in what the folder holds, and 7 here" in " ".join(capsys.readouterr().err.split())


def test_a_busy_machine_is_told(monkeypatch, asked, capsys):
    said = "this machine is busy with other work"
    for is_busy in (False, True):
        monkeypatch.setattr(measuring, "busy", lambda is_busy=is_busy: is_busy)
        assert main([*ORDER, "--run", str(is_busy)]) == 0
        assert (said in capsys.readouterr().err) is is_busy
    assert main([*ORDER, "--run", "True"]) == 0
    assert said not in capsys.readouterr().err, "nothing is measured any more"


def test_stopped_it_goes_on(monkeypatch, asked, capsys):
    there = attention.ask

    def stopped(module, order, *, threads):
        if len(asked) == 2:
            raise KeyboardInterrupt
        return there(module, order, threads=threads)

    monkeypatch.setattr(attention, "ask", stopped)
    assert main([*ORDER, "--threads", "1"]) == 130
    captured = capsys.readouterr()
    assert "interrupted: 2 cells left" in captured.err and captured.out == ""
    monkeypatch.setattr(attention, "ask", there)
    assert main([*ORDER, "--threads", "1"]) == 0
    assert "2 of 4 are there already" in capsys.readouterr().err and len(asked) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--parts", "mha,"], "--parts: names stand with commas between"),
        (["--context", "1x"], '--context: "1x" is no number of tokens'),
        (["--context", "0"], '"0" is no number of tokens'),
        (["--parts", "gqa:3"], "gqa:3: GroupedQuery.kv_heads: 4 heads cannot share 3"),
        (["--parts", "nsaa"], 'did you mean "nsa"'),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(asked, tmp_path, capsys, change, said):
    assert main([*ORDER, *change]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not asked and not list(tmp_path.iterdir())
