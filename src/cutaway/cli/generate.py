"""`cutaway generate MODEL PROMPT`: continue a text, token by token.

Read next: cli/streaming.py
"""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.cli import console
from cutaway.cli.opening import Device, Dtype, ModelName, PromptText, open_language, read_text
from cutaway.cli.options import MaxTokens, MinP, Penalty, Seed, Stop, Temperature, TopK, TopP
from cutaway.cli.streaming import Reading, follow
from cutaway.infer.decoding import Decoding


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
    stop: Stop = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="The prompt is a message: apply the model's chat template.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The whole answer as JSON: ids, logprobs, timing.")] = False,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Continue a text.

    The continuation goes to stdout as it comes; how fast it came goes to stderr.
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
    text = read_text(prompt)
    language = open_language(context, model, dtype=dtype, device=device)
    ids = language.encode([{"role": "user", "content": text}] if chat else text)
    reading = Reading()
    show = (lambda new: None) if as_json else console.write
    follow(lambda: language.stream(ids, **vars(decoding)), show, reading)
    if as_json:
        console.show_json({"model": model, "prompt_tokens": ids, **reading.plain()})
        return
    if not reading.text.endswith("\n"):
        console.write("\n")
    console.say(reading.usage)
