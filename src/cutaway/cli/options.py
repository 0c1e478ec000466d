"""How tokens are chosen, as options on the command line and as `name=value` in a chat; which attention runs.

Read next: infer/decoding.py, ops/forms.py (`ATTEND`)
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.infer.decoding import Decoding

MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", help="Most new tokens.")]
Temperature = Annotated[float, typer.Option("--temperature", "-t", help="0 takes the likeliest token; 1 draws as is.")]
TopK = Annotated[int | None, typer.Option(help="Draw from the k likeliest.")]
TopP = Annotated[float | None, typer.Option(help="Draw from the likeliest that together reach p.")]
MinP = Annotated[float | None, typer.Option(help="Draw from those at least this times as likely as the likeliest.")]
Penalty = Annotated[float, typer.Option("--repetition-penalty", help="Above 1 makes repeating less likely.")]
Seed = Annotated[int | None, typer.Option(help="The same seed draws the same tokens.")]
Stop = Annotated[list[str] | None, typer.Option(help="End at this text; can be given several times.")]

AttendName = Literal["naive", "tiled", "sdpa"]  # those of `ops.forms.ATTEND`, which imports torch
Attend = Annotated[AttendName | None, typer.Option("--attend", help="How attention is computed; sdpa is the fastest.")]

# What each option is in a chat's `/params name=value`.
KINDS: dict[str, type] = {
    "max_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "seed": int,
    "stop": str,
}
NONE = ("none", "off")


def changed(decoding: Decoding, pairs: str) -> Decoding:
    """`decoding` with `name=value` pairs put in; `none` takes an option back. Raises BadInput for anything else."""
    values: dict[str, Any] = dict(vars(decoding))
    for pair in pairs.split():
        name, equals, text = pair.partition("=")
        name = name.replace("-", "_")
        if name not in KINDS:
            raise BadInput(f'no parameter is called "{name}"{did_you_mean(name, KINDS)}')
        if not equals:
            raise BadInput("has no value: write name=value", field=name)
        values[name] = Decoding.__dataclass_fields__[name].default if text in NONE else _value(name, text)
    return Decoding(**values)


def _value(name: str, text: str) -> Any:
    try:
        return KINDS[name](text)
    except ValueError:
        raise BadInput(f'"{text}" is not a number', field=name) from None


def in_words(decoding: Decoding) -> str:
    """One line: `max_tokens=512 temperature=0.0 top_k=none ...`."""
    shown = {name: "none" if value in (None, ()) else value for name, value in vars(decoding).items()}
    return " ".join(f"{name}={value}" for name, value in shown.items())
