from __future__ import annotations

import io
import json

import pytest

from cutaway.cli import generate as module
from cutaway.cli.main import main
from cutaway.infer.decoding import Decoding

from .fakes import ScriptedLanguage, opener
from .folders import rewriter


@pytest.fixture
def language(monkeypatch):
    language = ScriptedLanguage("Paris.")
    monkeypatch.setattr(module, "open_model", opener(language))
    return language


def test_the_text_is_the_result_and_its_speed_a_remark(language, capsys):
    told = ["--device", "cpu", "--attend", "tiled", "--weights", "int4:group=64", "--cache", "int8"]
    told += ["--activations", "int8"]
    assert main(["generate", "some/model", "The capital of France is", *told]) == 0
    captured = capsys.readouterr()
    assert captured.out == "Paris.\n"
    assert captured.err.startswith("6 tokens, ") and "tokens/s, the first after" in captured.err
    assert language.opened == {
        "model": "some/model",
        "dtype": None,
        "device": "cpu",
        "attend": "tiled",
        "activations": "int8",
        "weights": "int4:group=64",
        "cache": "int8",
    }
    assert language.asked[0][0] == [1, 2]


def test_every_option_reaches_the_model(language, capsys):
    options = (
        "--max-tokens 5 -t 0.7 --top-k 3 --top-p 0.9 --min-p 0.1 --repetition-penalty 1.1 --seed 4 --stop a --stop b "
        "--set min_tokens=2 --set eta=0.1"
    )
    assert main(["generate", "m", "x", *options.split()]) == 0
    assert language.asked[0][1] == vars(Decoding()) | {
        "max_tokens": 5,
        "min_tokens": 2,
        "eta": 0.1,
        "temperature": 0.7,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "seed": 4,
        "stop": ("a", "b"),
    }


def test_chat_applies_the_template(language, capsys):
    assert main(["generate", "m", "x", "--chat"]) == 0
    assert language.asked[0][0] == [7, 8, 9]


def test_json_is_the_whole_answer_and_nothing_else(language, capsys):
    assert main(["generate", "m", "x", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert captured.err == "" and answer["text"] == "Paris." and answer["finish_reason"] == "stop"
    assert answer["tokens"] == [0, 1, 2, 3, 4, 5] and answer["logprobs"] == [-0.5] * 6
    assert answer["prompt_tokens"] == [1, 2] and answer["timing"]["tokens_per_second"] > 0


def test_a_dash_reads_standard_input(language, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(language, "encode", lambda prompt: seen.append(prompt) or [1])
    monkeypatch.setattr("sys.stdin", io.StringIO("你好\nworld\n"))
    assert main(["generate", "m", "-"]) == 0
    assert seen == ["你好\nworld"]


def test_an_impossible_option_is_refused_before_the_model_is_opened(language, capsys):
    assert main(["generate", "m", "x", "--top-p", "2"]) == 2
    assert "top_p: must be in (0, 1]" in capsys.readouterr().err and language.opened == {}


def test_a_prompt_beyond_the_context_is_one_line(language, capsys):
    assert main(["generate", "m", "too long"]) == 2
    assert capsys.readouterr().err == "error: prompt: the prompt has 9 tokens, the model's context 8\n"


def test_control_c_ends_with_130_and_keeps_what_was_said(monkeypatch, capsys):
    monkeypatch.setattr(module, "open_model", opener(ScriptedLanguage("Paris.", interrupt_at=2)))
    assert main(["generate", "m", "x"]) == 130
    assert capsys.readouterr().out == "Pa"


def test_an_encoder_decoder_writes_its_own_text(tmp_path, capsys):
    folder = str(rewriter(tmp_path / "m"))
    assert main(["generate", folder, "abc", "--max-tokens", "5", "--json", "--device", "cpu"]) == 0
    greedy = json.loads(capsys.readouterr().out)
    assert len(greedy["tokens"]) == 5 and len(greedy["prompt_tokens"]) == 3 and greedy["finish_reason"] == "length"
    assert main(["generate", folder, "abc", "--max-tokens", "5", "--beams", "3", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.endswith("\n")
    assert main(["generate", folder, "abc", "--temperature", "1", "--device", "cpu"]) == 2
    assert "--max-tokens and --beams alone" in capsys.readouterr().err
    assert main(["generate", folder, "abc", "--chat", "--device", "cpu"]) == 2
    assert "--chat: an encoder-decoder has no chat template" in capsys.readouterr().err
    assert main(["logits", folder, "abc", "--device", "cpu"]) == 2
    assert "is an encoder-decoder" in capsys.readouterr().err


def test_beams_are_an_encoder_decoders(language, capsys):
    assert main(["generate", "m", "x", "--beams", "2"]) == 2
    assert "only an encoder-decoder" in capsys.readouterr().err
