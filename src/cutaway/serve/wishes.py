"""From the fields of a request to what the engine is asked: OpenAI's defaults, our fields, the server's bounds.

Departures from OpenAI: `max_tokens` beyond what there is room for is cut and not refused, which the answer shows by the
finish reason "length"; chat answers have no bound but the room; `stop` takes more than four texts.
Read next: infer/decoding.py, infer/ask.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.infer.decoding import Decoding
from cutaway.serve.bodies import Wanted
from cutaway.serve.bounds import Bounds
from cutaway.serve.faults import Fault
from cutaway.serve.roster import Speaker
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.tools import Tool, render

# Fields that `Decoding` has under the same name; None leaves its own default.
SAME = ("min_tokens", "min_p", "typical_p", "epsilon", "eta", "repetition_penalty", "presence_penalty")
SAME += ("frequency_penalty", "no_repeat_ngram", "end_forced", "seed")


def prompt_ids(speaker: Speaker, prompt: str | list[int], bounds: Bounds) -> tuple[int, ...]:
    """Encodes a plain prompt. Raises Fault, BadInput for one that cannot be read."""
    _refuse_long(speaker, prompt if isinstance(prompt, str) else "", bounds)
    ids = list(prompt) if isinstance(prompt, list) else _tokenizer(speaker).encode(prompt)
    if not ids:
        beginning = speaker.tokenizer.bos_id if speaker.tokenizer else None
        if beginning is None:
            raise BadInput("is empty, and the model has no token that begins a text", field="prompt")
        ids = [beginning]
    return refuse_many(speaker, tuple(ids), bounds)


def chat_ids(
    speaker: Speaker,
    messages: list[dict[str, Any]],
    bounds: Bounds,
    *,
    tools: Sequence[Tool] = (),
    variables: dict[str, Any] | None = None,
) -> tuple[int, ...]:
    """Encodes a conversation by the model's template. Raises Fault, BadInput for one that cannot be read."""
    text = render(_tokenizer(speaker), messages, tools, variables=variables)
    _refuse_long(speaker, text, bounds)
    ids = _tokenizer(speaker).encode(text, special=False)
    if not ids:
        raise BadInput("the conversation is empty by this model's template", field="messages")
    return refuse_many(speaker, tuple(ids), bounds)


def decoding(body: Wanted, speaker: Speaker, bounds: Bounds, prompt: int, most: int | None) -> Decoding:
    """How tokens are chosen. `prompt`: its length in tokens; `most`: what was asked for, None for all there is room
    for. Raises Fault, BadInput for what cannot be."""
    room = max(speaker.context - prompt, 0)
    wanted = min(amount for amount in (most, room, bounds.output) if amount is not None)
    values: dict[str, Any] = {name: getattr(body, name) for name in SAME if getattr(body, name) is not None}
    if body.min_tokens is not None:
        values["min_tokens"] = (
            min(body.min_tokens, wanted) if most is None or body.min_tokens <= most else body.min_tokens
        )
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if len(stop) > bounds.stops:
        raise Fault(400, f"stop: at most {bounds.stops} texts", param="stop")
    return Decoding(
        max_tokens=wanted,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=body.top_p or None,  # 0 means: whatever is likeliest, which top_k says
        top_k=1 if body.top_p == 0 else body.top_k if body.top_k is not None and body.top_k > 0 else None,
        logit_bias=_bias(body, speaker),
        banned=tuple(tuple(ids) for ids in body.banned or ()),
        forced=tuple(body.forced or ()),
        stop=stop,
        **values,
    )


def samples(body: Wanted, bounds: Bounds, drawn: int | None = None) -> int:
    """Answers to one prompt, within the bounds. `drawn`: best_of."""
    count = body.n or 1
    for name, asked in (("n", count), ("best_of", drawn or 1)):
        if asked > bounds.samples:
            raise Fault(400, f"{name}: at most {bounds.samples}, is {asked}", param=name)
    if drawn is not None and drawn < count:
        raise Fault(400, f"best_of: must be at least n, which is {count}", param="best_of")
    return count


def tops(count: int | None, bounds: Bounds, name: str) -> int | None:
    """How many alternatives are told with a token."""
    if count is not None and count > bounds.tops:
        raise Fault(400, f"{name}: at most {bounds.tops}, is {count}", param=name)
    return count


def _bias(body: Wanted, speaker: Speaker) -> tuple[tuple[int, float], ...]:
    vocab, bias = speaker.service.language.spec.vocab, []
    for name, amount in (body.logit_bias or {}).items():
        if not (name.isascii() and name.isdigit() and len(name) < 10 and int(name) < vocab):
            said = f"logit_bias: {name!r:.50} is no token of this model, which has {vocab}"
            raise Fault(400, said, param="logit_bias")
        bias.append((int(name), amount))
    for name in ("banned", "forced"):
        told = getattr(body, name) or ()
        if any(id >= vocab for one in told for id in (one if isinstance(one, list) else [one])):
            raise Fault(400, f"{name}: this model has {vocab} tokens", param=name)
    return tuple(bias)


def _tokenizer(speaker: Speaker) -> Tokenizer:
    if speaker.tokenizer is None:
        raise BadInput("this model came without a tokenizer: give token ids", field="prompt")
    return speaker.tokenizer


def _most(speaker: Speaker, bounds: Bounds) -> int:
    return min(bounds.prompt or speaker.context, speaker.context)


def refuse_many(speaker: Speaker, ids: tuple[int, ...], bounds: Bounds) -> tuple[int, ...]:
    if len(ids) > _most(speaker, bounds):
        raise _too_long(f"{len(ids)} tokens", speaker, bounds)
    return ids


def _refuse_long(speaker: Speaker, text: str, bounds: Bounds) -> None:
    """Texts that are too long in any case are not cut into tokens first, which could take long."""
    most = _most(speaker, bounds)
    if len(text) > 4 * most and len(text) > most * speaker.spelling.longest:
        raise _too_long(f"{len(text)} characters", speaker, bounds)


def _too_long(size: str, speaker: Speaker, bounds: Bounds) -> Fault:
    said = f"the prompt has {size}; at most {_most(speaker, bounds)} tokens are read here"
    return Fault(400, said, param="prompt", code="context_length_exceeded")
