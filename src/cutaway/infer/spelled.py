"""A tokenizer's vocabulary as llguidance wants it: a trie of bytes, built once for each tokenizer.

Where decoding takes one space off the beginning of an answer, the first token shows without it: such tokens stand in
the trie a second time, without their space, under ids behind the vocabulary that only the first step looks at.
V vocabulary.   Read next: infer/constrain.py
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from cutaway.base.errors import CutawayError
from cutaway.text.token_bytes import SPACE, token_bytes

if TYPE_CHECKING:
    from cutaway.text.tokenizer import Tokenizer

KEPT = 32  # grammars whose beginnings are kept for each tokenizer
_made: weakref.WeakKeyDictionary[Any, Spelled] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class Spelled:
    """`vocabulary` is llguidance's; `ends` the ids that end an answer; `matchers` the beginnings kept, by grammar."""

    def __init__(self, tokenizer: Tokenizer):
        import llguidance

        known = token_bytes(tokenizer)
        self.size, self.ends = tokenizer.vocab, tokenizer.eos_ids
        tokens, special = list(known.tokens), sorted(known.special | tokenizer.eos_ids)
        self._first: dict[int, int | None] = {}  # where the first token is another one: that one's id; None for no text
        if known.lead:
            for id, token in enumerate(known.tokens):
                if id in known.unled:
                    self._first[id] = -1
                elif token == SPACE:
                    self._first[id] = None
                elif token.startswith(SPACE) and id not in known.special:
                    self._first[id] = len(tokens)
                    tokens.append(token[1:])
        ends = sorted(tokenizer.eos_ids)
        if not ends:  # llguidance must have one; nobody is shown it
            ends = [len(tokens)]
            special.append(len(tokens))
            tokens.append(b"<end>")
        self.vocabulary = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Told(tokens, special, ends[0], tokenizer)), eos_token=ends
        )
        self.matchers: OrderedDict[str, Any] = OrderedDict()

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Spelled:
        """The one of this tokenizer; the first time it takes 0.2 seconds, 2 with Gemma's 262,144 tokens."""
        with _lock:
            if tokenizer not in _made:
                _made[tokenizer] = cls(tokenizer)
            return _made[tokenizer]

    def keep(self, grammar: str, matcher: Any) -> None:
        """Remembers the beginning of a grammar; the oldest goes."""
        with _lock:
            self.matchers[grammar] = matcher
            while len(self.matchers) > KEPT:
                self.matchers.popitem(last=False)

    def first(self, token: int) -> int | None:
        """The id under which `token` stands when it is the first: None if it shows no text, -1 if it cannot be."""
        return self._first.get(token, token)

    def allowed(self, bits: bytes, *, first: bool) -> np.ndarray:
        """llguidance's mask as one bool for each id, (V,)."""
        allowed = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little").astype(bool)
        if first and self._first:
            moved = allowed[: self.size].copy()
            for token, id in self._first.items():
                moved[token] = id is None or (id >= 0 and allowed[id])
            return moved
        return allowed[: self.size]


class _Told:
    """What llguidance asks of a tokenizer: also which tokens spell a text that can be no other, such as a schema's key.

    The tokenizer's own encoding, where it says that text and nothing else: one that puts a space in front, or changes
    characters, gives way to the longest tokens from the left.
    """

    def __init__(self, tokens: list[bytes], special: list[int], end: int, tokenizer: Tokenizer):
        self.tokens, self.special_token_ids = tokens, special
        self.eos_token_id, self.bos_token_id = end, None
        self._tokenizer = weakref.ref(tokenizer)  # the trie must not keep its own key alive
        own, marked = tokenizer.vocab, frozenset(special)
        self._ids = {token: id for id, token in enumerate(tokens[:own]) if token and id not in marked}
        self._longest = max((len(token) for token in self._ids), default=0)

    def __call__(self, text: str) -> list[int]:
        tokenizer, said = self._tokenizer(), text.encode("utf-8")
        try:
            ids = tokenizer.encode(text, special=False) if tokenizer is not None else []
        except CutawayError:  # a vocabulary of characters that has not all of them
            ids = []
        return ids if ids and b"".join(self.tokens[id] for id in ids) == said else self._greedily(said)

    def _greedily(self, said: bytes) -> list[int]:
        ids, at = [], 0
        while at < len(said):
            sizes = range(min(self._longest, len(said) - at), 0, -1)
            size = next((size for size in sizes if said[at : at + size] in self._ids), None)
            if size is None:
                break
            ids.append(self._ids[said[at : at + size]])
            at += size
        return ids
