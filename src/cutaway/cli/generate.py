"""`cutaway generate MODEL PROMPT`: continue a text, token by token.

Read next: cli/streaming.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.cli import console, leaving
from cutaway.cli.constraint import Choice, Grammar, JsonSchema, Regex, constraint_of
from cutaway.cli.leaving import Leave, check_leave, held_by
from cutaway.cli.opening import Device, Dtype, ModelName, PromptText, open_model, read_text
from cutaway.cli.options import (
    Activations,
    Attend,
    Cache,
    MaxTokens,
    MinP,
    Penalty,
    Seed,
    Set,
    Stop,
    Temperature,
    TopK,
    TopP,
    Weights,
    changed,
)
from cutaway.cli.speculation import Speculate, check_speculate, in_words, plain, proposer_of
from cutaway.cli.streaming import Reading, follow
from cutaway.infer.decoding import Decoding

if TYPE_CHECKING:
    from cutaway.infer.seq2seq import Seq2Seq


def generate(
    context: typer.Context,
    model: ModelName,
    prompt: PromptText,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = 1.0,
    seed: Seed = None,
    more: Set = None,
    stop: Stop = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="The prompt is a message: apply the model's chat template.")
    ] = False,
    beams: Annotated[
        int, typer.Option(min=1, help="For an encoder-decoder: how many beginnings a search keeps; 1 is greedy.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The whole answer as JSON: ids, logprobs, timing.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    attend: Attend = None,
    activations: Activations = None,
    weights: Weights = None,
    cache: Cache = None,
    speculate: Speculate = None,
    leave: Leave = None,
    json_schema: JsonSchema = None,
    regex: Regex = None,
    choice: Choice = None,
    grammar: Grammar = None,
) -> None:
    """Continue a text.

    The continuation goes to stdout as it comes; how fast it came goes to stderr. An encoder-decoder (T5) reads the
    prompt and writes its own text, which comes at once.
    """
    decoding = Decoding(  # checked before the model is opened, which takes longer
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
    )
    decoding = changed(decoding, " ".join(more or ()))
    check_speculate(speculate)
    check_leave(leave, speculate)
    held = constraint_of(json_schema, regex, choice, grammar)
    text = read_text(prompt)
    asked: dict[str, Any] = {"dtype": dtype, "device": device, "attend": attend, "weights": weights, "cache": cache}
    language = open_model(context, model, activations=activations, **asked)
    from cutaway.infer.seq2seq import Seq2Seq

    if isinstance(language, Seq2Seq):
        if chat:
            raise BadInput("an encoder-decoder has no chat template", source="--chat")
        if speculate is not None:
            raise BadInput("only a decoder's tokens are guessed at", source="--speculate")
        if leave is not None:
            raise BadInput("only a decoder's tokens leave early", source="--leave")
        if held:
            raise BadInput("only a decoder's answer can be held to a form", source=model)
        _rewrite(language, model, text, decoding, beams, as_json)
        return
    if beams != 1:
        raise BadInput("only an encoder-decoder searches with beams", source="--beams")
    ids = language.encode([{"role": "user", "content": text}] if chat else text)
    reading, proposer, exits = Reading(), proposer_of(context, speculate), held_by(language, leave)
    mode = ({} if proposer is None else {"proposer": proposer}) | ({} if exits is None else {"held": exits})
    show = (lambda new: None) if as_json else console.write
    follow(lambda: language.stream(ids, **mode, **held, **vars(decoding)), show, reading)
    told = reading.pieces[-1].speculated if reading.pieces else None
    if as_json:
        modes = {} if told is None else {"speculated": plain(told)}
        modes |= {} if exits is None else {"exits": leaving.plain(exits)}
        console.show_json({"model": model, "prompt_tokens": ids, **reading.plain(), **modes})
        return
    if not reading.text.endswith("\n"):
        console.write("\n")
    console.say(reading.usage)
    if told is not None:
        console.say(in_words(told))
    if exits is not None:
        console.say(leaving.in_words(exits))


def _rewrite(language: Seq2Seq, model: str, text: str, decoding: Decoding, beams: int, as_json: bool) -> None:
    """One target for a source: the likeliest, by the rules of `Seq2Seq.generate`."""
    if decoding != Decoding(max_tokens=decoding.max_tokens):
        raise BadInput("an encoder-decoder takes --max-tokens and --beams alone", source=model)
    ids = language.encode(text)
    answer = language.generate(ids, max_tokens=decoding.max_tokens, beams=beams)
    if as_json:
        told = {name: value for name, value in vars(answer).items() if name != "speculated"}  # nobody guesses
        console.show_json({"model": model, "prompt_tokens": ids, **told})
    else:
        console.write(answer.text + "\n")
