"""What is asked of a service, and what it tells: plain values, without tensors.

Read next: infer/service.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Matcher, Scored, StopReason, Tops
from cutaway.infer.speculated import Speculated


class Busy(CutawayError):
    """More is waiting than may wait: to be asked again later."""


class Constraint(Protocol):
    """What an answer may be (infer/constrain.py)."""

    def begin(self, tokenizer: Any) -> Matcher:
        """What matches one answer. Raises BadInput for what no text fits."""
        ...

    def agrees(self, decoding: Decoding) -> None:
        """Raises BadInput where `decoding` says itself what must be written."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ask:
    """`prompt`: token ids. `samples`: answers to hand out; `best_of`: answers to draw, of which the ones with the
    highest mean logprob are handed out, the best first. `logprobs`: so many of the likeliest tokens are told with each
    token (0: only its own logprob). `prompt_logprobs`: those of the prompt's tokens too. `priority`: the smaller, the
    sooner. `constraint`: what the answers may be."""

    prompt: tuple[int, ...]
    decoding: Decoding = field(default_factory=Decoding)
    samples: int = 1
    best_of: int | None = None
    logprobs: int | None = None
    prompt_logprobs: bool = False
    priority: int = 0
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", tuple(self.prompt))
        if type(self.samples) is not int or self.samples < 1:
            raise BadInput(f"must be a whole number, at least 1, is {self.samples!r}", field="samples")
        if self.best_of is not None and (type(self.best_of) is not int or self.best_of < self.samples):
            raise BadInput(f"must be a whole number, at least {self.samples}, is {self.best_of!r}", field="best_of")

    @property
    def drawn(self) -> int:
        """Answers that are drawn."""
        return self.best_of or self.samples


@dataclass(frozen=True, kw_only=True)
class Event:
    """What is told of one sample, in this order: once "prompt" (of the first sample, when its prompt was read, with its
    logprobs where they were asked for, and how many of its tokens others had read), then "token" for each token, then
    "end" once for every sample.

    `text`: what is new of the text; "" while a character or a stop text may be incomplete; an "end" may hold the rest.
    `logprob`: in nats, of the model's own distribution, before rules and temperature; `tops`: the likeliest of it.
    `speculated`: with an "end", what came of guesses at that sample, where somebody guesses."""

    index: int
    kind: Literal["prompt", "token", "end"]
    text: str = ""
    token: int | None = None
    logprob: float = 0.0
    tops: Tops = ()
    reason: StopReason | None = None
    prompt: tuple[Scored, ...] = ()
    cached_tokens: int = 0
    speculated: Speculated | None = None


Listen = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class Stats:
    """`running`, `waiting`: sequences. `pages`: there are in all; `pages_held`, by anybody; `pages_shared`, by several.
    `prefix_hits`: sequences that found a beginning read, of `prefix_tokens` in all. `prompt_tokens`: of all prompts,
    `written_tokens` of all answers, `steps`: since the beginning; `tokens_per_second`: written, lately. `accepted` of
    the `proposed` tokens: of speculation."""

    running: int = 0
    waiting: int = 0
    pages: int = 0
    pages_held: int = 0
    pages_shared: int = 0
    prefix_hits: int = 0
    prefix_tokens: int = 0
    prompt_tokens: int = 0
    written_tokens: int = 0
    preemptions: int = 0
    steps: int = 0
    tokens_per_second: float = 0.0
    accepted: int = 0
    proposed: int = 0
