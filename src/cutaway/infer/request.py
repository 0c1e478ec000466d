"""What is asked of the engine, and how far each of its answers is. No tensors.

Read next: infer/scheduler.py
"""

from __future__ import annotations

import random
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from typing import Literal

from cutaway.base.errors import BadInput
from cutaway.infer.decoding import Decoding
from cutaway.infer.pages import keys

StopReason = Literal["stop", "length", "cancelled", "failed"]
"""Why an answer ended: with one of its ends, at its length, on somebody's word, or as its logits were no numbers."""
State = Literal["following", "waiting", "running", "finished"]
"""A second sample follows until the first has read the prompt for both."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """`prompt`: ids, at least one. `ends`: ids that end an answer. `priority`: the smaller, the sooner. `samples`:
    answers to draw, each by a seed of its own; the first is what one sample alone would be."""

    prompt: tuple[int, ...]
    decoding: Decoding = field(default_factory=Decoding)
    ends: frozenset[int] = frozenset()
    priority: int = 0
    samples: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", tuple(self.prompt))
        object.__setattr__(self, "ends", frozenset(self.ends))
        if not self.prompt or any(type(id) is not int or id < 0 for id in self.prompt):
            raise BadInput("must be token ids, at least one", field="prompt")
        if type(self.priority) is not int:
            raise BadInput(f"must be a whole number, is {self.priority!r}", field="priority")
        if type(self.samples) is not int or self.samples < 1:
            raise BadInput(f"must be a whole number, at least 1, is {self.samples!r}", field="samples")


class Sequence:
    """One answer that is being written. `number`: no other has it. `limit`: tokens it may become long, prompt included;
    its last one is never read. `due`: the earlier, the more urgent. `salt`: see `infer.pages.keys`. `siblings`: all
    that answer the same request, this one among them, by their index."""

    def __init__(self, request: Request, number: int, index: int, *, limit: int, due: int, salt: bytes = b""):
        self.request, self.number, self.index = request, number, index
        self.limit, self.due, self.salt = limit, due, salt
        self.tokens = list(request.prompt)
        self.state: State = "following" if index else "waiting"
        self.reason: StopReason | None = None
        self.siblings: list[Sequence] = [self]
        seed = request.decoding.seed
        self.draw = random.Random(seed if seed is None or not index else f"{seed}/{index}")
        told = request.decoding
        # Nothing but length, ends and seed are told: the likeliest token it is.
        self.plain = Decoding(max_tokens=told.max_tokens, seed=told.seed, stop=told.stop) == told
        self.preemptions = 0
        self.shared = 0  # tokens that it found when it was last let in
        self._keys: list[bytes] = []

    @property
    def rank(self) -> tuple[int, int]:
        """Who comes first; no two are equal."""
        return self.due, self.number

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens that were written."""
        return tuple(self.tokens[len(self.request.prompt) :])

    def keys(self, page: int) -> Row[bytes]:
        """The keys of all whole pages of its tokens."""
        if (len(self._keys) + 1) * page <= len(self.tokens):
            self._keys = keys(self.tokens, page, self._keys, self.salt)
        return self._keys

    def take(self, token: int) -> None:
        """One token more; ends the answer where it must end."""
        self.tokens.append(token)
        if token in self.request.ends:
            self.end("stop")
        elif len(self.tokens) >= self.limit:
            self.end("length")

    def end(self, reason: StopReason) -> None:
        self.state, self.reason = "finished", reason
