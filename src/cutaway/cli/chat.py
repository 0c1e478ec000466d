"""`cutaway chat`: a conversation, answered token by token.

Read next: cli/streaming.py, infer/continuation.py
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.cli import console, leaving
from cutaway.cli.constraint import Choice, Grammar, JsonSchema, Regex, constraint_of
from cutaway.cli.leaving import Leave, check_leave, held_by
from cutaway.cli.opening import Device, Dtype, ModelName, open_language
from cutaway.cli.options import (
    Activations,
    Attend,
    Cache,
    MaxTokens,
    MinP,
    Penalty,
    Seed,
    Set,
    Temperature,
    TopK,
    TopP,
    Weights,
    changed,
    in_words,
)
from cutaway.cli.streaming import Reading, follow
from cutaway.infer.decoding import Decoding

if TYPE_CHECKING:
    from cutaway.infer.constrain import Constraint
    from cutaway.infer.continuation import Continuation
    from cutaway.infer.language import Language

HELP = """\
/reset                forget the conversation
/system [TEXT]        what the model is told before everything else; "none" takes it back
/params [NAME=VALUE]  how tokens are chosen; "none" takes one back
/help                 this list
/exit                 leave, as Ctrl-D does
//TEXT                say TEXT with a / in front
Ctrl-C stops an answer."""


def chat(
    context: typer.Context,
    model: ModelName = "smollm2-135m",
    system: Annotated[str | None, typer.Option("--system", "-s", help="What the model is told first.")] = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.0,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = 1.0,
    seed: Seed = None,
    more: Set = None,
    device: Device = None,
    dtype: Dtype = None,
    attend: Attend = None,
    activations: Activations = None,
    weights: Weights = None,
    cache: Cache = None,
    leave: Leave = None,
    json_schema: JsonSchema = None,
    regex: Regex = None,
    choice: Choice = None,
    grammar: Grammar = None,
) -> None:
    """Talk with a model.

    Each line is a message; answers stream to stdout, everything else goes to stderr, so it works in a pipe too. /help
    while talking lists what else there is.
    """
    decoding = Decoding(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    decoding = changed(decoding, " ".join(more or ()))
    check_leave(leave)
    held = constraint_of(json_schema, regex, choice, grammar)
    asked: dict[str, Any] = {"dtype": dtype, "device": device, "attend": attend, "weights": weights, "cache": cache}
    language = open_language(context, model, activations=activations, **asked)
    if language.tokenizer is None or language.tokenizer.template is None:
        raise BadInput(f'not a chat model: it has no chat template; try: cutaway generate {model} "TEXT"', source=model)
    Conversation(language, decoding, system, leave=leave, **held).run(by_hand=sys.stdin.isatty())


class Conversation:
    """The messages so far, how to decode, and a cache that keeps what successive prompts share. `constraint`: what each
    answer has to be; `leave`: where tokens may leave early, as the option has it."""

    def __init__(
        self,
        language: Language,
        decoding: Decoding,
        system: str | None = None,
        constraint: Constraint | None = None,
        leave: str | None = None,
    ):
        self.constraint, self.leave = constraint, leave
        self.language, self.decoding, self.system = language, decoding, system
        self.messages: list[dict[str, str]] = []
        self.held = self._empty()

    def _empty(self) -> Continuation:
        return held_by(self.language, self.leave) or self.language.continuation()

    def run(self, *, by_hand: bool) -> None:
        """Read lines and answer them until they end. By hand, a mistake is said and the talk goes on."""
        if by_hand:
            _edit_lines()
            console.say("/help lists commands; Ctrl-D leaves")
        while (line := _line(by_hand)) is not None:
            text = line.strip()
            try:
                if text.startswith("/") and not text.startswith("//"):
                    if not self.obey(text):
                        return
                elif text:
                    self.answer(text.removeprefix("/") if text.startswith("//") else text, by_hand=by_hand)
            except BadInput as error:
                if not by_hand:
                    raise
                console.complain(str(error))

    def answer(self, text: str, *, by_hand: bool) -> None:
        """One turn. Ctrl-C keeps what had come; a prompt that cannot be answered is forgotten again."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        asked = {"role": "user", "content": text}
        reading = Reading()
        prompt = [*first, *self.messages, asked]
        try:
            told = {"held": self.held, "constraint": self.constraint, **vars(self.decoding)}
            follow(lambda: self.language.stream(prompt, **told), console.write, reading)
        except KeyboardInterrupt:
            self.held = self._empty()  # it may have been stopped half way through a layer
            if not by_hand:
                raise
        console.write("\n")
        if reading.text:
            self.messages += [asked, {"role": "assistant", "content": reading.text}]
        if reading.pieces:
            console.say(reading.usage)
            if self.leave is not None:
                console.say(leaving.in_words(self.held))

    def obey(self, line: str) -> bool:
        """One command; False to leave. Raises BadInput for an unknown one or a wrong value."""
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        if name in ("exit", "quit", "bye"):
            return False
        if name == "help":
            console.say(HELP)
        elif name == "reset":
            self.messages.clear()
            console.say("forgotten")
        elif name == "system":
            if rest:
                self.system = None if rest == "none" else rest
            console.say(f"system: {self.system or 'none'}")
        elif name == "params":
            self.decoding = changed(self.decoding, rest)
            console.say(in_words(self.decoding))
        else:
            known = ("reset", "system", "params", "help", "exit")
            raise BadInput(f"no command /{name}{did_you_mean(name, known)}")
        return True


def _edit_lines() -> None:
    try:
        import readline  # noqa: F401  (being there is enough for `input` to edit lines)
    except ImportError:  # Windows edits lines by itself
        return


def _line(by_hand: bool) -> str | None:
    """The next line; None at the end of the input, or at Ctrl-C when nothing is being answered."""
    try:
        if by_hand and sys.stdout.isatty():
            return input("> ")
        if by_hand:  # stdout is a file: the prompt must not land in it
            sys.stderr.write("> ")
            sys.stderr.flush()
        return sys.stdin.readline() or None
    except KeyboardInterrupt:
        if not by_hand:
            raise
    except EOFError:
        pass
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 text (byte {error.start})", source="standard input") from error
    sys.stderr.write("\n")
    return None
