from __future__ import annotations

import io
import json

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.cli import chat, generate, leaving
from cutaway.cli.main import main
from cutaway.infer.early_exit import Confident
from cutaway.infer.language import Language
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm

from ..serve.small import language as talker
from .fakes import opener
from .folders import rewriter


@pytest.fixture
def small(monkeypatch):
    """A decoder of three blocks that reads ids only: its prompt is always the same."""
    torch.manual_seed(0)
    block = Block(mixer=GroupedQuery(heads=1, kv_heads=1, head_dim=4), feed=Gated(hidden=8), before=RMSNorm())
    module = Decoder(vocab=9, dim=8, length=64, norm=RMSNorm(), blocks=(block,) * 3).build()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    language = Language(module)
    monkeypatch.setattr(language, "encode", lambda prompt: [1, 2, 3, 1, 2])
    monkeypatch.setattr(generate, "open_model", opener(language))  # type: ignore[arg-type]
    return language


def test_tokens_leave_where_the_model_is_sure_and_how_far_they_went_is_told(small, capsys):
    language = small
    assert main(["generate", "m", "x", "-n", "12", "--json", "--leave", "1:0.2"]) == 0
    told = json.loads(capsys.readouterr().out)
    held = language.continuation(Confident(after=(1,), threshold=0.2))
    assert told["tokens"] == list(language.generate([1, 2, 3, 1, 2], held=held, max_tokens=12).tokens)
    assert told["exits"] == {"blocks": held.depth, "of": 3, "left": sum(one == 1 for one in held.left)}
    assert 0 < told["exits"]["left"] <= 11
    assert main(["generate", "m", "x", "-n", "12", "--leave", "1:0.2"]) == 0
    assert f"exits: {held.depth:.1f} of 3 blocks a token" in capsys.readouterr().err
    assert main(["generate", "m", "x", "-n", "12", "--json"]) == 0
    assert "exits" not in json.loads(capsys.readouterr().out)


def test_a_conversation_with_exits(tmp_path, monkeypatch, capsys):
    language = talker(tmp_path)
    monkeypatch.setattr(chat, "open_language", opener(language))  # type: ignore[arg-type]
    for lines in ("hi\nmore\n", "hi\n/reset\nhi\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        assert main(["chat", "m", "-n", "5", "--leave", "1:0.01"]) == 0
        assert capsys.readouterr().err.count("exits: 1.0 of 2 blocks") == 2


def test_what_is_asked_for_is_read():
    assert leaving._read("20") == ((20,), 0.9)
    assert leaving._read("10,20:0.95") == ((10, 20), 0.95)
    leaving.check_leave(None, "lookup")


@pytest.mark.parametrize("given", ["", "x", "0", "2,1", "2,2", "2:", "2:x", "2:0", "2:1.5", "2:nan", "-1"])
def test_what_means_nothing_is_refused_before_anything_is_opened(given, capsys):
    for command in (["generate", "no/such", "x"], ["chat", "no/such"]):
        assert main([*command, f"--leave={given}"]) == 2
        assert capsys.readouterr().err.startswith("error: --leave: ")


def test_a_block_that_is_not_there_and_guesses_beside_it_are_refused(small, capsys):
    assert main(["generate", "m", "x", "--leave", "3"]) == 2
    assert "--leave: the model has 3 blocks: leave before the last" in capsys.readouterr().err
    with pytest.raises(BadInput, match="leave out --speculate"):
        leaving.check_leave("1", "lookup")


def test_an_encoder_decoder_has_no_exits(tmp_path, capsys):
    assert main(["generate", str(rewriter(tmp_path)), "x", "--leave", "1"]) == 2
    assert "--leave" in capsys.readouterr().err
