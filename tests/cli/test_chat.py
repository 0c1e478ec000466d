from __future__ import annotations

import io

import pytest

from cutaway.base.errors import BadInput
from cutaway.cli import chat as module
from cutaway.cli.chat import Conversation
from cutaway.cli.main import main
from cutaway.infer.decoding import Decoding

from .fakes import ScriptedLanguage, opener

HI = {"role": "user", "content": "hi"}
SAID = {"role": "assistant", "content": "Paris."}


def talk(monkeypatch, language: ScriptedLanguage, *lines: str, arguments: tuple[str, ...] = ()) -> int:
    """`cutaway chat` with the lines piped in."""
    monkeypatch.setattr(module, "open_language", opener(language))
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return main(["chat", *arguments])


def by_hand(monkeypatch, language: ScriptedLanguage, *lines: str) -> Conversation:
    """A conversation at the keyboard."""
    rest = iter(lines)
    monkeypatch.setattr(module, "_line", lambda by_hand: next(rest, None))
    conversation = Conversation(language, Decoding())  # type: ignore[arg-type]
    conversation.run(by_hand=True)
    return conversation


def test_piped_lines_are_answered_in_turn_and_remembered(monkeypatch, capsys):
    language = ScriptedLanguage()
    assert talk(monkeypatch, language, "hi", "", "  more  ") == 0
    captured = capsys.readouterr()
    assert captured.out == "Paris.\nParis.\n" and captured.err.count("6 tokens, ") == 2
    assert [prompt for prompt, _ in language.asked] == [[HI], [HI, SAID, {"role": "user", "content": "more"}]]
    assert language.opened["model"] == "smollm2-135m"


def test_reset_system_and_params(monkeypatch, capsys):
    language = ScriptedLanguage()
    lines = (
        "hi",
        "/reset",
        "/system Be brief.",
        "/params temperature=0.5 seed=3",
        "hi",
        "/system none",
        "/reset",
        "hi",
    )
    assert talk(monkeypatch, language, *lines, arguments=("--max-tokens", "7")) == 0
    prompts, options = zip(*language.asked, strict=True)
    assert list(prompts) == [[HI], [{"role": "system", "content": "Be brief."}, HI], [HI]]
    assert options[1]["temperature"] == 0.5 and options[1]["seed"] == 3 and options[1]["max_tokens"] == 7
    errors = capsys.readouterr().err
    assert "system: Be brief." in errors and "temperature=0.5" in errors and "forgotten" in errors


def test_exit_leaves_at_once_and_two_slashes_are_one(monkeypatch, capsys):
    language = ScriptedLanguage()
    assert talk(monkeypatch, language, "/help", "//etc", "/exit", "hi") == 0
    assert [prompt[-1]["content"] for prompt, _ in language.asked] == ["/etc"]
    captured = capsys.readouterr()
    assert "/reset" in captured.err and captured.out == "Paris.\n"


def test_a_mistake_ends_a_pipe_and_not_a_talk(monkeypatch, capsys):
    language = ScriptedLanguage()
    assert talk(monkeypatch, language, "/rest", "hi") == 2
    assert 'error: no command /rest; did you mean "reset"?' in capsys.readouterr().err
    conversation = by_hand(monkeypatch, language, "/rest", "/params top_k=0", "too long", "hi")
    assert conversation.messages == [HI, SAID], "what could not be answered is not remembered"
    assert capsys.readouterr().err.count("error: ") == 3


def test_control_c_stops_the_answer_and_the_talk_goes_on(monkeypatch, capsys):
    language = ScriptedLanguage(interrupt_at=2)
    conversation = Conversation(language, Decoding())  # type: ignore[arg-type]
    held = conversation.held
    conversation.answer("hi", by_hand=True)
    assert conversation.messages == [HI, {"role": "assistant", "content": "Pa"}]
    assert conversation.held is not held, "a cache that was stopped half way is not used again"
    with pytest.raises(KeyboardInterrupt):
        conversation.answer("hi", by_hand=False)
    language.interrupt_at = 0
    conversation.answer("nothing came", by_hand=True)
    assert len(conversation.messages) == 2


def test_a_base_model_is_refused_with_advice(monkeypatch, capsys):
    language = ScriptedLanguage(template=None)
    assert talk(monkeypatch, language, "hi", arguments=("gemma3-270m",)) == 2
    assert "gemma3-270m: not a chat model" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [EOFError, KeyboardInterrupt])
def test_control_c_and_control_d_at_the_prompt_leave(monkeypatch, stop):
    def read():
        raise stop

    monkeypatch.setattr("sys.stdin.readline", read, raising=False)
    assert module._line(by_hand=True) is None
    if stop is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            module._line(by_hand=False)


def test_lines_that_are_no_text_are_one_line(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8"))
    with pytest.raises(BadInput, match="standard input: not UTF-8"):
        module._line(by_hand=False)
