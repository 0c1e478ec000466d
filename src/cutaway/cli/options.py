"""How tokens are chosen, as options on the command line and as `name=value` in a chat; which attention runs.

Read next: infer/decoding.py, ops/choice.py (`ATTEND`)
"""

from __future__ import annotations

from collections.abc import Callable
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

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="More of how tokens are chosen: min_tokens, typical_p, epsilon, eta, presence_penalty, frequency_penalty, "
        "no_repeat_ngram, banned, forced, end_forced, logit_bias. Again for more.",
    ),
]

Weights = Annotated[
    str | None,
    typer.Option(
        metavar="PRECISION",
        help="Round the matrices to this: int8, int8:tensor, int4:group=64, int4:group=32,asymmetric, q8_0, q4_0, "
        "q4_1, bfloat16, float32.",
    ),
]
CacheName = Literal["float32", "bfloat16", "float16", "int8"]  # those of `nn.narrow_cache.KEPT`, which imports torch
Cache = Annotated[CacheName | None, typer.Option("--cache", help="Keep keys and values in this (as it computes).")]

AttendName = Literal["naive", "tiled", "sdpa", "kernels", "triton"]  # those of `ops.choice.ATTEND`, which imports torch
Attend = Annotated[
    AttendName | None,
    typer.Option("--attend", help="How attention is computed (sdpa); kernels is for training on a CPU."),
]

ActivationsName = Literal["float", "int8"]  # those of `ops.forms.ACTIVATIONS`, which imports torch
Activations = Annotated[
    ActivationsName | None,
    typer.Option(
        "--activations",
        help="What quantised weights are multiplied by, on our kernels: int8 is up to twice as fast and rounds, as "
        "llama.cpp does; a near tie may fall the other way.",
    ),
]


def _yes(text: str) -> bool:
    return {"yes": True, "true": True, "on": True, "no": False, "false": False}[text.lower()]


def _ids(text: str) -> tuple[int, ...]:
    return tuple(int(id) for id in text.split(","))


def _sequences(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(_ids(sequence) for sequence in text.split("/"))


def _bias(text: str) -> tuple[tuple[int, float], ...]:
    pairs = [pair.split(":") for pair in text.split(",")]
    return tuple((int(id), float(amount)) for id, amount in pairs)


# What each field is in `name=value`: how it is read, and what is said of what is none.
KINDS: dict[str, tuple[Callable[[str], Any], str]] = {
    "max_tokens": (int, "a whole number"),
    "min_tokens": (int, "a whole number"),
    "temperature": (float, "a number"),
    "top_k": (int, "a whole number"),
    "top_p": (float, "a number"),
    "min_p": (float, "a number"),
    "typical_p": (float, "a number"),
    "epsilon": (float, "a number"),
    "eta": (float, "a number"),
    "repetition_penalty": (float, "a number"),
    "presence_penalty": (float, "a number"),
    "frequency_penalty": (float, "a number"),
    "no_repeat_ngram": (int, "a whole number"),
    "banned": (_sequences, "sequences of token ids, such as 12,13/7"),
    "forced": (_ids, "token ids, such as 12,13"),
    "end_forced": (_yes, "yes or no"),
    "logit_bias": (_bias, "token ids with numbers, such as 12:2.5,7:-100"),
    "seed": (int, "a whole number"),
    "stop": (str, "a text"),
}
OPTIONS = {"max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop"}
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
    read, what = KINDS[name]
    try:
        return read(text)
    except (ValueError, KeyError):
        raise BadInput(f'"{text}" is not {what}', field=name) from None


def in_words(decoding: Decoding) -> str:
    """One line: `max_tokens=512 temperature=0.0 top_k=none ...`; what has no option of its own only where it is set."""
    plain, values = vars(Decoding()), vars(decoding)
    shown = [name for name in KINDS if name in OPTIONS or values[name] != plain[name]]
    return " ".join(f"{name}={'none' if values[name] in (None, ()) else values[name]}" for name in shown)
