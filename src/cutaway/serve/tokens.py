"""Tokens with their logprobs, in the two shapes that OpenAI's API has for them.

A token is told as a person may read it; the bytes of a token that is no whole character are `\\xe4` in it, and in
`bytes` as they are.   Read next: text/tokenizer.py
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.infer.ask import Event
from cutaway.infer.request import Scored, Tops
from cutaway.text.token_bytes import token_bytes
from cutaway.text.tokenizer import Tokenizer

LEAST = -9999.0  # what OpenAI writes for minus infinity, which JSON has not


class Spelling:
    """What the tokens of one model are called. Without a tokenizer they are numbers."""

    def __init__(self, tokenizer: Tokenizer | None):
        self.tokenizer = tokenizer

    def piece(self, token: int) -> str:
        return self.tokenizer.token(token) if self.tokenizer else f"[{token}]"

    @cached_property
    def _bytes(self) -> tuple[bytes, ...]:
        try:
            return token_bytes(self.tokenizer).tokens if self.tokenizer else ()
        except BadInput:  # a vocabulary whose tokens have no bytes of their own
            return ()

    def bytes(self, token: int) -> list[int]:
        return list(self._bytes[token] if token < len(self._bytes) else self.piece(token).encode("utf-8", "replace"))

    @cached_property
    def longest(self) -> int:
        """Characters of the longest token: with n tokens no text has more than n times as many."""
        return max((len(self.piece(id)) for id in range(self.tokenizer.vocab if self.tokenizer else 0)), default=1)

    def named(self, token: int, logprob: float) -> dict[str, Any]:
        return {"token": self.piece(token), "logprob": finite(logprob), "bytes": self.bytes(token)}


def chat_logprobs(spelling: Spelling, events: Sequence[Event]) -> dict[str, Any]:
    """Of /v1/chat/completions."""
    content = [
        {
            **spelling.named(event.token or 0, event.logprob),
            "top_logprobs": [spelling.named(token, logprob) for token, logprob in event.tops],
        }
        for event in events
    ]
    return {"content": content, "refusal": None}


class Listing:
    """Of /v1/completions: four lists, in which offsets go on from where the text stands."""

    def __init__(self, spelling: Spelling, *, alternatives: bool):
        self.spelling, self.alternatives = spelling, alternatives
        self.offset = 0  # characters of the text so far

    def echoed(self, prompt: Sequence[Scored], special: bool) -> dict[str, Any]:
        """The prompt's tokens. `special`: its special tokens are part of the text that is given back."""
        tokenizer = self.spelling.tokenizer
        pieces = tokenizer.detokenizer(special=special) if tokenizer else None
        rows = []
        for token, logprob, tops in prompt:
            rows.append((token, logprob, tops, self.offset))
            self.offset += len(pieces.push(token)) if pieces else 0
        self.offset += len(pieces.flush()) if pieces else 0
        return self._lists(rows)

    def written(self, events: Sequence[Event]) -> dict[str, Any]:
        """Those of an answer."""
        rows = []
        for event in events:
            rows.append((event.token or 0, event.logprob, event.tops, self.offset))
            self.offset += len(event.text)
        return self._lists(rows)

    def _lists(self, rows: Sequence[tuple[int, float | None, Tops, int]]) -> dict[str, Any]:
        return {
            "tokens": [self.spelling.piece(token) for token, *_ in rows],
            "token_logprobs": [None if logprob is None else finite(logprob) for _, logprob, *_ in rows],
            "top_logprobs": [self._tops(token, logprob, tops) for token, logprob, tops, _ in rows]
            if self.alternatives
            else None,
            "text_offset": [offset for *_, offset in rows],
        }

    def _tops(self, token: int, logprob: float | None, tops: Tops) -> dict[str, float] | None:
        """The likeliest, and the token itself, which need not be one of them."""
        if logprob is None:
            return None
        told = {self.spelling.piece(id): finite(amount) for id, amount in tops}
        return {**told, self.spelling.piece(token): finite(logprob)} if tops else told


def joined(lists: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Lists behind each other as one."""
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return {name: None if lists[0][name] is None else [one for part in lists for one in part[name]] for name in names}


def finite(logprob: float) -> float:
    return max(logprob, LEAST)
