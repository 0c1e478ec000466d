"""What is asked of the engine, and how far each of its answers is. No tensors.

Read next: infer/scheduler.py
"""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.decoding import Decoding
from cutaway.infer.pages import keys

StopReason = Literal["stop", "length", "cancelled", "stuck", "failed"]
"""Why an answer ended: with one of its ends, at its length, on somebody's word, as its rules left no token, or as its
logits were no numbers."""
State = Literal["following", "waiting", "running", "finished"]
"""A second sample follows until the first has read the prompt for both."""
Tops = tuple[tuple[int, float], ...]
"""The likeliest tokens at one place with their logprobs, the likeliest first."""
Scored = tuple[int, float | None, Tops]
"""A token of a prompt, its logprob behind all before it (None: it is the first), and the likeliest in its place."""


class Stuck(CutawayError):
    """No token can follow: the rules forbid all that a constraint allows, or all, or a step would cost too much."""


class Matcher(Protocol):
    """How far an answer is within what it may be (infer/constrain.py): asked before each token, told each one."""

    def mask(self, logits_V: Any) -> Any:
        """The logits with minus infinity where a token may not come. Raises Stuck where none may."""
        ...

    def take(self, token: int) -> None:
        """The token that was chosen."""
        ...

    def fits(self, tokens: Row[int]) -> int:
        """How many of these may follow one another from here."""
        ...

    def copy(self) -> Any:
        """Another one, as far as this."""
        ...

    @property
    def done(self) -> bool:
        """Whether nothing but an end may come."""
        ...


@dataclass(frozen=True, kw_only=True)
class Request:
    """`prompt`: ids, at least one. `ends`: ids that end an answer. `priority`: the smaller, the sooner. `samples`:
    answers to draw, each by a seed of its own; the first is what one sample alone would be. `logprobs`: so many of the
    likeliest are told with each token. `prompt_logprobs`: the prompt's tokens are told so too; of a prompt whose
    logprobs are asked for nothing is shared, as all of it is read. `matcher`: makes what constrains one answer."""

    prompt: tuple[int, ...]
    decoding: Decoding = field(default_factory=Decoding)
    ends: frozenset[int] = frozenset()
    priority: int = 0
    samples: int = 1
    logprobs: int | None = None
    prompt_logprobs: bool = False
    matcher: Callable[[], Matcher] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", tuple(self.prompt))
        object.__setattr__(self, "ends", frozenset(self.ends))
        if not self.prompt or any(type(id) is not int or id < 0 for id in self.prompt):
            raise BadInput("must be token ids, at least one", field="prompt")
        if type(self.priority) is not int:
            raise BadInput(f"must be a whole number, is {self.priority!r}", field="priority")
        if type(self.samples) is not int or self.samples < 1:
            raise BadInput(f"must be a whole number, at least 1, is {self.samples!r}", field="samples")
        if self.logprobs is not None and (type(self.logprobs) is not int or self.logprobs < 0):
            raise BadInput(f"must be None or a whole number from 0, is {self.logprobs!r}", field="logprobs")
        if type(self.prompt_logprobs) is not bool:
            raise BadInput(f"must be True or False, is {self.prompt_logprobs!r}", field="prompt_logprobs")


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
        self.matcher = request.matcher() if request.matcher else None
        free = Decoding(max_tokens=told.max_tokens, seed=told.seed, stop=told.stop) == told
        self.plain = free and self.matcher is None
        self.guesses: tuple[int, ...] = ()  # at what follows its tokens, for the next step alone
        self.preemptions = 0
        self.shared = 0  # tokens that it found when it was first let in
        self.scores: list[Scored] = [(request.prompt[0], None, ())]  # of the prompt, as far as they are known
        self._keys: list[bytes] = []

    @property
    def rank(self) -> tuple[int, int]:
        """Who comes first; no two are equal."""
        return self.due, self.number

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens that were written."""
        return tuple(self.tokens[len(self.request.prompt) :])

    @property
    def unscored(self) -> range:
        """The places whose logits are still to be looked at, as they tell the logprob of the prompt's next token."""
        if not self.request.prompt_logprobs or self.index:
            return range(0)
        return range(len(self.scores) - 1, len(self.request.prompt) - 1)

    @property
    def most(self) -> int:
        """Tokens that need not be read where others have read them: the last one's logits are always asked for."""
        last = len(self.tokens) - 1
        return min(last, self.unscored.start) if self.unscored else last

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
