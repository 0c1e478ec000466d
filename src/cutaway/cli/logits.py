"""`cutaway logits MODEL PROMPT`: what the model holds likeliest next, with numbers.

V vocabulary.   Read next: infer/continuation.py
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.cli.console import Column, say, show_json, show_table
from cutaway.cli.opening import Device, Dtype, ModelName, PromptText, open_language, read_text
from cutaway.cli.options import Activations, Attend, Cache, Weights

if TYPE_CHECKING:
    from torch import Tensor

    from cutaway.infer.language import Language


def logits(
    context: typer.Context,
    model: ModelName,
    prompt: PromptText,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="How many tokens to show.")] = 10,
    chat: Annotated[
        bool, typer.Option("--chat", help="The prompt is a message: apply the model's chat template.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    attend: Attend = None,
    activations: Activations = None,
    weights: Weights = None,
    cache: Cache = None,
) -> None:
    """The likeliest next tokens after a text.

    Logprobs are natural logarithms; the entropy says how undecided the model is, in bits.
    """
    text = read_text(prompt)
    asked: dict[str, Any] = {"dtype": dtype, "device": device, "attend": attend, "weights": weights, "cache": cache}
    language = open_language(context, model, activations=activations, **asked)
    ids = language.encode([{"role": "user", "content": text}] if chat else text)
    logprobs_V = _next_logprobs(language, ids)
    best = logprobs_V.topk(min(top, logprobs_V.numel()))
    rows = [
        {
            "rank": rank,
            "id": token,
            "token": language.tokenizer.token(token) if language.tokenizer else None,
            "logprob": logprob,
            "probability": probability,
        }
        for rank, (token, logprob, probability) in enumerate(
            zip(best.indices.tolist(), best.values.tolist(), best.values.exp().tolist(), strict=True), start=1
        )
    ]
    # exp(-inf) * -inf is not a number, but a token that cannot come adds nothing: hence the clamp.
    entropy = float(-(logprobs_V.exp() * logprobs_V.clamp(min=-1e4)).sum()) / math.log(2)
    if as_json:
        show_json({"model": model, "prompt_tokens": ids, "entropy_bits": entropy, "next": rows})
        return
    show_table(
        (
            Column(title="rank", align="right"),
            Column(title="id", align="right"),
            Column(title="token"),
            Column(title="logprob", align="right"),
            Column(title="probability", align="right"),
        ),
        [_in_words(row) for row in rows],
    )
    say(f"after {len(ids)} token{'s' * (len(ids) != 1)}; entropy {entropy:.2f} bits")


def _next_logprobs(language: Language, ids: list[int]) -> Tensor:
    """Logprobs (V,) in float32 of the token after `ids`."""
    continuation = language.continuation()
    logits_V = continuation.feed(continuation.rewind(ids, room=len(ids))).float()
    if not bool(logits_V.isfinite().all()):
        raise BadInput("the logits are not finite (NaN or infinite)", source=language.source, field="weights")
    return logits_V.log_softmax(0)


def _in_words(row: dict[str, Any]) -> tuple[str, ...]:
    # Quoted and escaped, so that a space, a line end and nothing at all can be told apart.
    token = "" if row["token"] is None else visible(row["token"])
    return str(row["rank"]), str(row["id"]), token, f"{row['logprob']:.4f}", f"{100 * row['probability']:.2f}%"


def visible(token: str) -> str:
    """A token in quotes, with line ends and other invisible characters written out: `"\\n"`."""
    return '"' + "".join(character if character.isprintable() else repr(character)[1:-1] for character in token) + '"'
