"""The bytes that each token stands for: what a grammar over bytes has to know of a vocabulary.

A token's spelling is not its text: `Ġ` is a space in a byte-level vocabulary, `▁` in SentencePiece's, `<0xE4>` a third
of a Chinese character. What decides is the decoder, as in text/detokenizer.py: the text of an answer is the UTF-8
reading of its tokens' bytes, but for one thing. Where encoding puts a space in front of a text, decoding takes one off,
so that the first token of an answer shows without it (`lead`).
Decoders that look at more than one token (WordPiece's `##`, GPT-1's `</w>`) leave no token bytes of its own.
Read next: infer/constrain.py
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.text.detokenizer import alphabet
from cutaway.text.tokenizer import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_VALUES = {character: byte for byte, character in enumerate(alphabet())}
SPACE = b" "


@dataclass(frozen=True, kw_only=True)
class TokenBytes:
    """`tokens`: bytes by id, none for an id without a token. `special`: ids that decoding leaves out. `lead`: a space
    that an answer begins with is not shown; `unled`: ids that would lose more than that one at the beginning."""

    tokens: tuple[bytes, ...]
    special: frozenset[int]
    lead: bool
    unled: frozenset[int]


def token_bytes(tokenizer: Tokenizer) -> TokenBytes:
    """The bytes of every token. Raises BadInput for a vocabulary whose tokens have none of their own."""
    backend = tokenizer.vocabulary.backend
    decoder: Any = backend.decoder
    state: dict[str, Any] = json.loads(decoder.__getstate__()) if decoder is not None else {"type": "None"}
    steps: list[dict[str, Any]] = state["decoders"] if state["type"] == "Sequence" else [state]
    kinds = [step["type"] for step in steps]
    known = all(_known(step, kinds[:place]) for place, step in enumerate(steps))
    if not known:
        said = f"its tokens have no bytes of their own (decoder {' + '.join(kinds)}): it cannot be held to a grammar"
        raise BadInput(said, source=tokenizer.vocabulary.source, field="tokenizer")
    pieces = [backend.id_to_token(index) or "" for index in range(tokenizer.vocab)]
    tokens = tuple(_bytes(piece, steps) for piece in pieces)
    spaced = any(step["type"] == "Metaspace" and step.get("prepend_scheme", "always") != "never" for step in steps)
    return TokenBytes(
        tokens=tokens,
        special=frozenset(tokenizer.special.values()),
        lead=spaced or "Strip" in kinds,
        unled=frozenset(i for i, token in enumerate(tokens) if SPACE in token[1:]) if spaced else frozenset(),
    )


def _known(step: dict[str, Any], before: list[str]) -> bool:
    """Whether a decoder's step works on one token alone, or only takes one space off the whole text."""
    kind = step["type"]
    if kind == "Strip":
        return bool(before) and "Fuse" in before and (step["content"], step["start"], step["stop"]) == (" ", 1, 0)
    if kind == "Replace":
        return "Fuse" not in before and "String" in step["pattern"]
    return kind in ("ByteLevel", "ByteFallback", "Fuse", "Metaspace")


def _bytes(piece: str, steps: list[dict[str, Any]]) -> bytes:
    for step in steps:
        kind = step["type"]
        if kind == "ByteLevel":
            try:
                return bytes(_VALUES[character] for character in piece)
            except KeyError:  # an added token with characters outside the alphabet is itself
                return piece.encode("utf-8")
        if kind == "Replace":
            piece = piece.replace(step["pattern"]["String"], step["content"])
        elif kind == "Metaspace":
            piece = piece.replace(step["replacement"], " ")
        elif kind == "ByteFallback" and (found := _BYTE.fullmatch(piece)):
            return bytes([int(found[1], 16)])
    return piece.encode("utf-8")
