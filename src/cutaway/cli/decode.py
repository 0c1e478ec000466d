"""`cutaway decode PROMPT --show greedy,top-p:0.9,beam:4`: what each way of decoding sees and takes, side by side.

Read next: lab/decoding_ways.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.base.errors import BadInput
from cutaway.cli.console import Column, show_json, show_table
from cutaway.cli.opening import Device, Dtype, PromptText, open_language, read_text
from cutaway.cli.options import Attend

if TYPE_CHECKING:
    from cutaway.infer.language import Language
    from cutaway.lab.decoding_ways import Step

SHOWN = "greedy,top-p:0.9,beam:4"


def decode(
    context: typer.Context,
    prompt: PromptText,
    model: Annotated[str, typer.Option("--model", "-m", help="A short name, a folder, a file.")] = "smollm2-135m",
    show: Annotated[
        str,
        typer.Option(
            help="Ways, with commas between: greedy, sample, top-k, top-p, min-p, typical, epsilon, eta, beam, groups, "
            "contrastive; each may have a number, as top-p:0.9."
        ),
    ] = SHOWN,
    steps: Annotated[int, typer.Option("--steps", "-n", min=1, help="Tokens to go on.")] = 8,
    top: Annotated[int, typer.Option(min=1, help="Candidates to show of each step.")] = 3,
    seed: Annotated[int, typer.Option(help="What is drawn.")] = 0,
    chat: Annotated[
        bool, typer.Option("--chat", help="The prompt is a message: apply the model's chat template.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    attend: Attend = None,
) -> None:
    """Decode one prompt in several ways, step by step.

    Each column is a way, each row a step. `>` marks what is taken; the number is its probability after the cuts, a
    contrastive score, or, for beams, the mean logprob of the beginning.
    """
    from cutaway.lab.decoding_ways import Way

    ways = [Way.of(text) for text in show.split(",")]
    text = read_text(prompt)
    language = open_language(context, model, dtype=dtype, device=device, attend=attend)
    if language.tokenizer is None:
        raise BadInput("came without a tokenizer: there is no text to show", source=model)
    ids = language.encode([{"role": "user", "content": text}] if chat else text)
    names = [name.strip() for name in show.split(",")]
    taken = [list(way.steps(language, ids, steps, seed)) for way in ways]
    if as_json:
        show_json({"model": model, "prompt_tokens": ids, "ways": dict(zip(names, map(_plain, taken), strict=True))})
        return
    rows = []
    for step in range(max(map(len, taken))):
        columns = [_in_words(language, one[step], top) if step < len(one) else [] for one in taken]
        for line in range(max(map(len, columns))):
            rows.append((str(step + 1) if not line else "", *(one[line] if line < len(one) else "" for one in columns)))
    show_table((Column(title="step", align="right"), *(Column(title=name) for name in names)), rows)


def _in_words(language: Language, step: Step, top: int) -> list[str]:
    """The first candidates, and the one that is taken where it is none of them."""
    assert language.tokenizer is not None
    shown = [*step[:top], *(one for one in step[top:] if one.taken)]
    lines = []
    for one in shown:
        text = language.tokenizer.decode(one.ids[-4:], special=True) if one.ids else ""
        dots = "…" if len(one.ids) > 4 else ""
        lines.append(f"{'>' if one.taken else ' '} {one.number:6.3f} {dots}{text!r}")
    return lines


def _plain(steps: list[Step]) -> list[list[dict]]:
    return [[{"ids": list(one.ids), "number": one.number, "taken": one.taken} for one in step] for step in steps]
