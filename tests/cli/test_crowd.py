from __future__ import annotations

import importlib.util

import pytest
import torch

from cutaway.base.errors import CutawayError
from cutaway.cli import crowd as module
from cutaway.infer.load import load

from .folders import tiny


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    torch.set_num_threads(1)
    return load(tiny(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(module, "TOKENS", 4)
    monkeypatch.setattr(module, "LOOK", 0.001)


def test_one_asks_and_then_eight(language, short, capsys):
    said = []
    section = module.crowd(language, said.append)
    assert section is not None and said[0].startswith("A server at http://127.0.0.1:")
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "requests" and [row.split()[0] for row in rows] == ["1", "8"]
    # The beginning that all prompts share was read for the first: the eight others find it.
    *_, hits, found = rows[1].split()
    whole = len(language.encode([{"role": "system", "content": module.SYSTEM}, {"role": "user", "content": "x"}]))
    assert int(hits) == 8 and 8 * (len(module.SYSTEM) // 16 * 16) <= int(found) < 8 * whole
    assert rows[0].split()[-2:] == ["0", "0"]
    pages, shared = map(int, rows[1].split()[4:6])
    assert 0 < shared <= pages
    assert all(question in section.body for question in module.QUESTIONS)
    assert "http" not in section.body + section.note


def test_what_goes_wrong_is_one_remark(language, short, monkeypatch):
    def fail(place, question):
        raise CutawayError("the server answered 503: it ends")

    monkeypatch.setattr(module, "ask", fail)
    said = []
    assert module.crowd(language, said.append) is None
    assert said[-1] == "Left out: the server answered 503: it ends"


def test_an_error_of_the_server_is_told(language, short, monkeypatch):
    monkeypatch.setattr(module, "TOKENS", -1)
    said = []
    assert module.crowd(language, said.append) is None
    assert "the server answered 400" in said[-1] and "max_tokens" in said[-1]


def test_without_the_extra_it_is_left_out(language, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    said = []
    assert module.crowd(language, said.append) is None
    assert said == ["Left out: uvicorn is not installed. `pip install cutaway[serve]` brings what a server needs."]
