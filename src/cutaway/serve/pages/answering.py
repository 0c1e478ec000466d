"""One answer on its way from the engine's thread to a page: what was asked, and the tokens that came since last time.

No page in it, and no browser.   Read next: infer/service.py, serve/pages/chat.py
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cutaway.base.errors import BadInput
from cutaway.infer.ask import Ask, Event, Stats
from cutaway.infer.decoding import Decoding

ALTERNATIVES = 6  # of each token


class Teller(Protocol):
    """What a page needs of `infer.service.Service`."""

    language: Any

    def ask(self, ask: Ask, listen: Any) -> Any: ...
    def stats(self) -> Stats: ...


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a page asks; an empty field is None."""

    system: str = ""
    temperature: float | None = 0.7
    top_k: float | None = None
    top_p: float | None = 0.95
    min_p: float | None = None
    max_tokens: float | None = 256
    seed: float | None = None

    def decoding(self) -> Decoding:
        """Raises BadInput naming the field. A page's numbers come as floats."""
        told: dict[str, Any] = {"temperature": self.temperature or 0.0, "top_p": self.top_p, "min_p": self.min_p}
        for name in ("top_k", "max_tokens", "seed"):
            value = getattr(self, name)
            if value is not None:
                if value != int(value):
                    raise BadInput(f"must be a whole number, is {value}", field=name)
                told[name] = int(value)
        return Decoding(**told)


def prompt_of(service: Teller, messages: Sequence[Mapping[str, str]], system: str) -> tuple[int, ...]:
    """The ids of a conversation; of a base model, those of its last message alone, which it continues."""
    language = service.language
    if not chats(service):
        return tuple(language.encode(messages[-1]["content"]))
    first = [{"role": "system", "content": system}] if system.strip() else []
    return tuple(language.encode([*first, *(dict(message) for message in messages)]))


def chats(service: Teller) -> bool:
    """Whether the model has a template for conversations."""
    return service.language.tokenizer.template is not None


class Answering:
    """`text`: all of it so far; `reason`: why it ended, None while it is written; `cached`: tokens of the prompt that
    were not read again."""

    def __init__(self, service: Teller, prompt: tuple[int, ...], settings: Settings):
        self._tokenizer = service.language.tokenizer
        self._lock = threading.Lock()
        self._new: list[dict[str, Any]] = []
        self.text, self.count, self.cached = "", 0, 0
        self.reason: str | None = None
        self.began = self.last = time.monotonic()
        asked = Ask(prompt=prompt, decoding=settings.decoding(), logprobs=ALTERNATIVES)
        self.ticket = service.ask(asked, self._hear)

    @property
    def seconds(self) -> float:
        """Until the last token."""
        return self.last - self.began

    def stop(self) -> None:
        """Asks for no more of it."""
        self.ticket.cancel()

    def take(self) -> list[dict[str, Any]]:
        """The tokens that came since: `t` their text, `k` how they are spelled, `p` their probability, `a` the
        likeliest in their place, spelled, with theirs."""
        with self._lock:
            new, self._new = self._new, []
        return new

    def _hear(self, event: Event) -> None:
        """In the engine's thread."""
        with self._lock:
            if event.kind == "prompt":
                self.cached = event.cached_tokens
                return
            self.text += event.text
            if event.kind == "token" and event.token is not None:
                self.count, self.last = self.count + 1, time.monotonic()
                self._new.append(
                    {
                        "t": event.text,
                        "k": self._spelled(event.token),
                        "p": round(math.exp(event.logprob), 4),
                        "a": [[self._spelled(token), round(math.exp(one), 4)] for token, one in event.tops],
                    }
                )
            elif event.text:
                self._new.append({"t": event.text, "k": "", "p": 1.0, "a": []})
            if event.kind == "end":
                self.reason = event.reason or "stop"

    def _spelled(self, token: int) -> str:
        return self._tokenizer.token(token)
