"""What generation gives back: pieces while it runs, an answer at its end. No tensors.

Read next: infer/language.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cutaway.infer.speculated import Speculated

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One generated token. `text` may be empty (half a character, or what may become a stop text) or hold more than
    this token's own. `logprob` is of the model's own distribution, before penalty and temperature. Only the last piece
    has a `finish_reason`, and where somebody guessed, what came of it."""

    text: str
    token: int
    logprob: float
    finish_reason: FinishReason | None = None
    speculated: Speculated | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`tokens`: the new ids, an end-of-turn token included; `logprobs` in nats, one a token, of the model's own
    distribution; "stop": the model or a stop text ended it, "length": max_tokens or the context's end did;
    `speculated`: what came of guesses, where there were any to be."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    speculated: Speculated | None = None


class StopText:
    """Holds back what may be the beginning of a stop text, across token borders."""

    def __init__(self, stops: tuple[str, ...]):
        self.stops = stops
        self.held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """Takes new text, returns what is now sure not to be part of a stop text; `hit` once one was met."""
        self.held += text
        found = [place for stop in self.stops if (place := self.held.find(stop)) >= 0]
        if found:
            self.hit = True
            sure, self.held = self.held[: min(found)], ""
            return sure
        keep = max((self._beginning(stop) for stop in self.stops), default=0)
        sure, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return sure

    def flush(self) -> str:
        """What was held back, at the end."""
        rest, self.held = self.held, ""
        return rest

    def _beginning(self, stop: str) -> int:
        """The length of the longest beginning of `stop` that the held text ends with."""
        return next((n for n in range(min(len(stop) - 1, len(self.held)), 0, -1) if self.held.endswith(stop[:n])), 0)
