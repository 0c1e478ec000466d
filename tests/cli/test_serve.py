"""`cutaway serve` on the command line: what it says, what it refuses, and that it does so before it opens a model."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import httpx
import pytest
import torch

import cutaway
from cutaway.base.errors import BadInput
from cutaway.cli.main import main
from cutaway.cli.serve import read_keys, refuse_twice, split
from cutaway.infer.ask import Ask
from cutaway.infer.decoding import Decoding
from cutaway.infer.proposers import Draft, EarlyExit, PromptLookup
from cutaway.nn.quantised import QuantisedLinear
from cutaway.serve import run
from cutaway.serve.listening import listen

from ..infer.sentences import sentence_folder
from ..serve.small import language


def test_names_are_the_models_own_or_given(tmp_path):
    assert split("smollm2-135m") == ("smollm2-135m", "smollm2-135m")
    assert split(f"{tmp_path}/runs/mine") == ("mine", f"{tmp_path}/runs/mine")
    assert split("x/some.Q4_0.gguf") == ("some.Q4_0", "x/some.Q4_0.gguf")
    assert split("chat=x/some.gguf") == ("chat", "x/some.gguf")
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert split(str(odd)) == ("a=b", str(odd))
    with pytest.raises(BadInput, match="two models are called mine"):
        refuse_twice([("mine", "a"), ("mine", "b")])


def test_keys_come_from_the_option_and_the_environment(monkeypatch):
    monkeypatch.setenv("CUTAWAY_API_KEY", "key-number-one, key-number-two")
    assert read_keys(["key-number-three"]) == ["key-number-three", "key-number-one", "key-number-two"]
    for wrong in ("short", "with a space", "非常非常非常长的钥匙"):
        with pytest.raises(BadInput, match="--api-key"):
            read_keys([wrong])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "b/a"], "two models are called a"),
        (["none", "--host", "192.0.2.1"], "no address of this machine"),
        (["none", "--port", "70000"], "65535"),
        (["none", "--together", "600"], "would leave nothing"),
        (["none", "--api-key", "x"], "at least 8"),
        (["none", "--weights", "int3"], "int3"),
        (["none", "--cache", "8192"], "float32"),
        (["none", "--speculate", "early:x"], "--speculate: "),
        ([], "Missing argument"),
    ],
)
def test_what_cannot_be_is_told_with_code_2(capsys, arguments, said):
    assert main(["serve", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_taken_port_is_told_before_any_model_is_looked_for(capsys):
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        assert main(["serve", "no-such-model", "--port", str(port)]) == 2
    told = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 is taken" in told and len(told.splitlines()) == 1
    assert main(["serve", "no-such-model", "--port", "0"]) == 1
    assert "no-such-model" in capsys.readouterr().err


@pytest.fixture
def served(monkeypatch, tmp_path):
    """What `cutaway serve` would serve of a saved folder, with more arguments; nothing listens for long."""
    cutaway.save(language(tmp_path / "tokenizer"), tmp_path / "mine")
    rosters = []

    def take(app, bound):
        rosters.append(app.state.desk.roster)
        return 0

    monkeypatch.setattr(run, "serve", take)

    def ask(*arguments, models=("mine",)):
        folders = [str(tmp_path / name) for name in models]
        return main(["serve", *folders, "--port", "0", "--no-page", *arguments]), rosters[-1:]

    yield ask
    for roster in rosters:
        roster.close()


def test_weights_cache_and_guesses_are_what_was_asked_for(served):
    code, [roster] = served("--weights", "int8", "--cache", "int8", "--speculate", "lookup", "--tokens", "512")
    service = roster.speakers[0].service
    engine = service._engine
    assert code == 0 and engine.guessing.proposer == PromptLookup() and engine.runner.kept == torch.int8
    assert any(isinstance(part, QuantisedLinear) for part in service.language.module.modules())
    assert engine.limits.tokens == 512
    told = Decoding(max_tokens=40)
    heard = []
    assert service.ask(Ask(prompt=tuple([257, 10] * 6), decoding=told), heard.append).wait(60)
    assert [event.token for event in heard if event.kind == "token"] == list(
        service.language.generate([257, 10] * 6, max_tokens=40).tokens
    )
    end = heard[-1].speculated
    assert (end.proposed, end.accepted) == (service.stats().proposed, service.stats().accepted) and end.proposed > 0
    code, [roster] = served()
    engine = roster.speakers[0].service._engine
    assert code == 0 and engine.guessing is engine.runner.kept is None and engine.limits.tokens == 8192


def test_a_draft_and_the_first_blocks_guess_too(served, tmp_path):
    code, [roster] = served("--speculate", str(tmp_path / "mine"))
    assert code == 0 and isinstance(roster.speakers[0].service._engine.guessing.proposer, Draft)
    code, [roster] = served("--speculate", "early:1")
    assert code == 0 and roster.speakers[0].service._engine.guessing.proposer == EarlyExit(blocks=1)


def test_a_proposer_that_does_not_fit_is_told_with_the_model(served, tmp_path, capsys):
    assert served("--speculate", "early:2")[0] == 2
    told = capsys.readouterr().err
    assert f"{tmp_path}/mine: blocks: must be from 1 to 1, is 2" in told and len(told.splitlines()) == 1
    other = language(tmp_path / "other", endless=True)
    other.module = replace(other.spec, vocab=other.spec.vocab + 1).build()
    cutaway.save(other, tmp_path / "draft")
    assert served("--speculate", str(tmp_path / "draft"))[0] == 2
    assert f"{tmp_path}/draft: draft: has other tokens" in capsys.readouterr().err


def test_where_nothing_is_written_nothing_is_guessed_at_or_kept(served, tmp_path, capsys):
    sentence_folder(tmp_path / "vectors")
    for option in (["--speculate", "lookup"], ["--cache", "int8"]):
        assert served(*option, models=("vectors",))[0] == 2
        assert f"{option[0]}: none of these models writes text" in capsys.readouterr().err
        code, [roster] = served(*option, models=("vectors", "mine"))
        assert code == 0 and len(roster.speakers) == len(roster.embedders) == 1


@pytest.mark.proof
def test_a_saved_folder_is_served(tmp_path):
    """What `cutaway.save` writes; told to end, it ends with 0 and says nothing more."""
    cutaway.save(language(tmp_path / "tokenizer"), tmp_path / "mine")
    command = [sys.executable, "-m", "cutaway", "serve", str(tmp_path / "mine"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr is not None
        line = next(process.stderr)
        assert line.startswith("serving mine at http://127.0.0.1:")
        url = line.split(" at ")[1].strip()
        told = httpx.post(f"{url}/completions", json={"prompt": "hello", "max_tokens": 4, "temperature": 0}, timeout=60)
        alone = cutaway.load(tmp_path / "mine").generate("hello", max_tokens=4)
        assert told.json()["choices"][0]["text"] == alone.text
        process.terminate()
        rest = process.stderr.read()
    assert process.returncode == 0
    assert "Traceback" not in rest
