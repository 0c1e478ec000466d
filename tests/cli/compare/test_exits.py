from __future__ import annotations

import json

import pytest

from cutaway.cli.compare import exits as module
from cutaway.cli.main import main

from ...lab.test_exits import IDS, language


@pytest.fixture
def small(monkeypatch):
    one = language()
    asked: list[str] = []
    monkeypatch.setattr(one, "encode", lambda text: asked.append(text) or IDS)
    monkeypatch.setattr(module, "open_language", lambda context, name, attend: one)
    return asked


def test_every_block_and_threshold_has_its_line(small, capsys):
    assert main(["compare", "exits", "m", "--thresholds", "0.5,0.9"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["leaves", "blocks", "faster", "agrees", "perplexity"] and len(lines) == 6
    assert lines[3][:5] == ["behind", "block", "3", "3.0", "1.00x"] and lines[3][5] == "100.0%"
    assert lines[4][:3] == ["at", "p", ">="] and len(small[0]) > 1000  # the explanations


def test_json_has_the_same(small, capsys):
    assert main(["compare", "exits", "m", "--text", "hello", "--tokens", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tokens"] == 5 and len(told["exits"]) == 7 and small == ["hello"]
    assert told["exits"][2]["agreement"] == 1.0 and told["exits"][3]["threshold"] == 0.5


@pytest.mark.parametrize("given", ["x", "0.5,", "2", "-0.1", "nan"])
def test_impossible_thresholds_are_refused(small, capsys, given):
    assert main(["compare", "exits", "m", f"--thresholds={given}"]) == 2
    assert "--thresholds" in capsys.readouterr().err
