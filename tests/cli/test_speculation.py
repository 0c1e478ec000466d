from __future__ import annotations

import json

import pytest

from cutaway.base.errors import BadInput
from cutaway.cli import generate as module
from cutaway.cli import speculation
from cutaway.cli.main import main
from cutaway.infer.language import Language
from cutaway.infer.proposers import Draft, EarlyExit, PromptLookup
from cutaway.infer.speculated import Speculated
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm

from .folders import rewriter


@pytest.fixture
def small(monkeypatch):
    """A decoder that reads ids only: its prompt is always the same."""
    block = Block(mixer=GroupedQuery(heads=1, kv_heads=1, head_dim=4), feed=Gated(hidden=8), before=RMSNorm())
    language = Language(Decoder(vocab=9, dim=8, length=64, norm=RMSNorm(), blocks=(block, block)).build())
    monkeypatch.setattr(language, "encode", lambda prompt: [1, 2, 3, 1, 2])
    monkeypatch.setattr(module, "open_model", lambda *told, **more: language)
    monkeypatch.setattr(speculation, "open_language", lambda context, name: language)
    return language


@pytest.mark.parametrize("given", ["lookup", "early:1", "some/model"])
def test_an_answer_is_the_same_and_what_came_of_guesses_is_told(small, capsys, given):
    assert main(["generate", "m", "x", "-n", "12", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["generate", "m", "x", "-n", "12", "--json", "--speculate", given]) == 0
    guessed = json.loads(capsys.readouterr().out)
    assert guessed["tokens"] == plain["tokens"] and "speculated" not in plain
    assert set(guessed["speculated"]) >= {"acceptance_rate", "tokens_per_pass", "expected_tokens_per_pass"}
    assert main(["generate", "m", "x", "-n", "12", "--speculate", given]) == 0
    assert "guesses: " in capsys.readouterr().err


def test_values_are_what_was_asked_for(small):
    assert speculation.proposer_of(None, None) is None  # type: ignore[arg-type]
    assert speculation.proposer_of(None, "lookup") == PromptLookup()  # type: ignore[arg-type]
    assert speculation.proposer_of(None, "early:10") == EarlyExit(blocks=10)  # type: ignore[arg-type]
    assert isinstance(speculation.proposer_of(None, "a"), Draft)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["early:", "early:x", "early:0", "early:-1", "early:²", " "])
def test_what_means_nothing_is_refused_before_anything_is_opened(given, capsys):
    assert main(["generate", "no/such", "x", "--speculate", given]) == 2
    assert "--speculate" in capsys.readouterr().err
    with pytest.raises(BadInput):
        speculation.check_speculate(given)


def test_blocks_that_are_not_there_are_refused(small, capsys):
    assert main(["generate", "m", "x", "--speculate", "early:2"]) == 2
    assert "from 1 to 1" in capsys.readouterr().err


def test_an_encoder_decoder_is_not_guessed_at(tmp_path, capsys):
    assert main(["generate", str(rewriter(tmp_path)), "x", "--speculate", "lookup"]) == 2
    assert "--speculate" in capsys.readouterr().err


def test_words_of_an_answer_and_of_none():
    words = speculation.in_words(Speculated(guesses=(4, 4, 0), judged=5, accepted=4))
    assert words.startswith("guesses: 4 of 8 kept, 80% of those looked at; 2.33 tokens a pass (")
    assert speculation.in_words(Speculated(guesses=(0, 0))) == "guesses: none were worth a try"
