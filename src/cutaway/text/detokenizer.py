"""Token ids to text one at a time, never half a character, and in sum exactly what decoding all of them gives.

A character may be spread over several tokens (a Chinese one over three bytes, a family emoji over twenty-five), so text
is held back until it is whole. How long depends on the decoder:
- byte-level: bytes are held until they end a character; bytes that cannot become one turn into U+FFFD.
- SentencePiece: a run of byte tokens counts as characters only if all of it does, and otherwise every byte of it turns
  into U+FFFD; so a run is held until another token ends it. (transformers' rule; SentencePiece itself keeps the good
  part of a bad run.) The space that encoding put in front of a text is taken off.
- word-end markers (`</w>`, GPT-1): the space after a word is held until the next token.
Law: "".join(map(push, ids)) + flush() == decode(ids), for any ids.
Read next: text/tokenizer.py
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, Protocol

from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Stage(Protocol):
    """One step of a decoder: takes a piece of text, gives the pieces that are settled; `end` gives what was held."""

    def take(self, piece: str) -> list[str]: ...

    def end(self) -> list[str]: ...


class Detokenizer:
    """`push(id)` gives the text that is settled by that token, perhaps none; `flush()` the rest, and starts anew."""

    def __init__(self, backend: Tokenizer, special: bool = False):
        self._backend = backend
        added = backend.get_added_tokens_decoder()
        self._skipped = frozenset() if special else frozenset(i for i, token in added.items() if token.special)
        self._stages = _stages(backend)

    def push(self, token_id: int) -> str:
        piece = None if token_id in self._skipped else self._backend.id_to_token(token_id)
        return "" if piece is None else _through(self._stages, [piece])

    def flush(self) -> str:
        text = "".join(_through(self._stages[index + 1 :], stage.end()) for index, stage in enumerate(self._stages))
        self._stages = _stages(self._backend)
        return text


class _Bytes:
    """ByteLevel: every character of a piece stands for a byte; a piece with any other character is itself."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, piece: str) -> list[str]:
        try:
            data = bytes(_VALUES[character] for character in piece)
        except KeyError:
            data = piece.encode("utf-8")
        return [self._decoder.decode(data)]

    def end(self) -> list[str]:
        return [self._decoder.decode(b"", final=True)]


class _ByteRuns:
    """ByteFallback: `<0xE4>` is a byte; a run of them is text if all of it is UTF-8, else one U+FFFD for each."""

    def __init__(self) -> None:
        self._run = bytearray()

    def take(self, piece: str) -> list[str]:
        found = _BYTE.fullmatch(piece)
        if found is None:
            return [*self.end(), piece]
        self._run.append(int(found[1], 16))
        return []

    def end(self) -> list[str]:
        run, self._run = bytes(self._run), bytearray()
        try:
            return [run.decode("utf-8")] if run else []
        except UnicodeDecodeError:
            return ["\ufffd"] * len(run)


class _Replace:
    """Replace, with a plain pattern: within each piece."""

    def __init__(self, old: str, new: str):
        self._old, self._new = old, new

    def take(self, piece: str) -> list[str]:
        return [piece.replace(self._old, self._new)]

    def end(self) -> list[str]:
        return []


class _Strip:
    """Strip after Fuse: at most `count` of one character off the beginning of the whole text."""

    def __init__(self, content: str, count: int):
        self._content, self._count = content, count

    def take(self, piece: str) -> list[str]:
        while self._count and piece.startswith(self._content):
            piece, self._count = piece[len(self._content) :], self._count - 1
        if piece:
            self._count = 0
        return [piece]

    def end(self) -> list[str]:
        return []


class _Metaspace:
    """Metaspace: `▁` is a space; the first piece loses all of its own if encoding puts one in front."""

    def __init__(self, mark: str, prefixed: bool):
        self._mark, self._first = mark, prefixed

    def take(self, piece: str) -> list[str]:
        space, self._first = "" if self._first else " ", False
        return [piece.replace(self._mark, space)]

    def end(self) -> list[str]:
        return []


class _WordEnds:
    """BPEDecoder: `</w>` is a space, except in the last piece, where it is nothing."""

    def __init__(self, suffix: str):
        self._suffix, self._held = suffix, ""

    def take(self, piece: str) -> list[str]:
        before = self._held.replace(self._suffix, " ")
        settled, mark, rest = piece.partition(self._suffix)
        self._held = mark + rest
        return [before + settled]

    def end(self) -> list[str]:
        held, self._held = self._held, ""
        return [held.replace(self._suffix, "")]


class _Whole:
    """Any other decoder: exact, and not a stream; everything comes at the end."""

    def __init__(self, decode: Callable[[list[str]], str]):
        self._decode, self._pieces = decode, []

    def take(self, piece: str) -> list[str]:
        self._pieces.append(piece)
        return []

    def end(self) -> list[str]:
        pieces, self._pieces = self._pieces, []
        return [self._decode(pieces)] if pieces else []


def _through(stages: list[Stage], pieces: list[str]) -> str:
    for stage in stages:
        pieces = [settled for piece in pieces for settled in stage.take(piece)]
    return "".join(pieces)


def _stages(backend: Tokenizer) -> list[Stage]:
    """The stages that do what `backend.decoder` does, or one that waits for the end."""
    decoder: Any = backend.decoder
    if decoder is None:
        return [_Whole(" ".join)]
    state = json.loads(decoder.__getstate__())
    steps = state["decoders"] if state["type"] == "Sequence" else [state]
    stages: list[Stage] = []
    fused = False
    for step in steps:
        stage = _stage(step, fused)
        if stage is None and step["type"] != "Fuse":
            return [_Whole(decoder.decode)]
        fused = fused or step["type"] in ("Fuse", "ByteLevel")
        if stage is not None:
            stages.append(stage)
    return stages


def _stage(step: dict[str, Any], fused: bool) -> Stage | None:
    kind = step["type"]
    if kind == "ByteLevel":
        return _Bytes()
    if fused:  # what follows sees one text: only what can be done to its beginning is a stream
        return _Strip(step["content"], step["start"]) if kind == "Strip" and not step["stop"] else None
    if kind == "ByteFallback":
        return _ByteRuns()
    if kind == "Replace" and "String" in step["pattern"]:
        return _Replace(step["pattern"]["String"], step["content"])
    if kind == "Metaspace":
        return _Metaspace(step["replacement"], step.get("prepend_scheme", "always") != "never")
    if kind == "BPEDecoder":
        return _WordEnds(step["suffix"])
    return None


def alphabet() -> list[str]:
    """The 256 characters that stand for bytes 0 to 255 in byte-level BPE: themselves if printable, else U+0100 on.

    Radford et al. 2019: so that a vocabulary of bytes can be read and split on spaces.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


_VALUES = {character: byte for byte, character in enumerate(alphabet())}
