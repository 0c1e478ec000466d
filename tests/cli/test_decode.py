from __future__ import annotations

import json

import pytest
import torch

from cutaway.cli import decode as module
from cutaway.cli.main import main
from cutaway.infer.language import Language
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope


class Letters:
    """A token is a letter; none ends a text."""

    eos_ids = frozenset()

    def decode(self, ids, special=False):
        return "".join("abcd"[id] for id in ids)


@pytest.fixture
def language(monkeypatch) -> Language:
    torch.manual_seed(0)
    mixer = GroupedQuery(heads=2, kv_heads=1, head_dim=4, rope=Rope(width=4))
    block = Block(mixer=mixer, feed=Gated(hidden=16), before=RMSNorm())
    spec = Decoder(vocab=4, dim=8, length=32, norm=RMSNorm(), blocks=(block,))
    language = Language(spec.build(), Letters())
    monkeypatch.setattr(language, "encode", lambda prompt: [1, 2])
    monkeypatch.setattr(module, "open_language", lambda *given, **told: language)
    return language


def test_ways_stand_side_by_side(language, capsys):
    assert main(["decode", "x", "--show", "greedy,top-k:2,beam:2", "--steps", "3", "--top", "2"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["step", "greedy", "top-k:2", "beam:2"]
    assert [row.split()[0] for row in rows if row[:4].strip()] == ["1", "2", "3"]
    assert all(row.count(">") >= 1 for row in rows if row[:4].strip() == "1")


def test_json_holds_every_candidate(language, capsys):
    assert main(["decode", "x", "--show", "greedy, sample", "--steps", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["ways"]) == ["greedy", "sample"] and told["prompt_tokens"] == [1, 2]
    for steps in told["ways"].values():
        assert all(len(step) == 4 and sum(one["taken"] for one in step) == 1 for step in steps)


def test_a_wrong_way_is_said_before_a_model_is_opened(capsys):
    assert main(["decode", "x", "--show", "gredy"]) == 2
    assert 'did you mean "greedy"' in capsys.readouterr().err


def test_an_unknown_model_is_one_line(capsys):
    assert main(["decode", "x", "--model", "no-such-model-here"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
