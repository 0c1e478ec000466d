"""A byte-level BPE in a tokenizer.json: bytes spelled as letters, and everything refused that would encode otherwise.

Read next: text/bpe.py, text/tokenizer_json.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from cutaway.base.errors import BadInput
from cutaway.text import tokenizer_json
from cutaway.text.detokenizer import alphabet
from cutaway.text.presplit import name_of
from cutaway.text.vocabulary import named_errors

LETTERS = alphabet()  # LETTERS[b] is the printable letter that stands for byte b
PRESPLIT = {"gpt-2": "gpt-2", "gpt-4": "smaug-bpe"}  # what text/presplit.py calls our cuts, for the Rust engine

_BYTES = {letter: byte for byte, letter in enumerate(LETTERS)}
_OPTIONS = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")

Merges = list[tuple[int, int, int]]  # (left id, right id, id they make)


def spelling(token: bytes) -> str:
    """A token as files spell it."""
    return "".join(LETTERS[byte] for byte in token)


def bytes_of(spelled: str) -> bytes | None:
    """The bytes that a token in a file spells, or None if it is spelled with anything else."""
    values = [_BYTES.get(letter, -1) for letter in spelled]
    return bytes(values) if min(values, default=-1) >= 0 else None


def read(path: Path) -> tuple[list[bytes], Merges, dict[str, int], str]:
    """The tokens by id, the merges, the special tokens with their ids, and the name of the cut.

    Raises BadInput naming the field that is broken, or that asks for something byte-level BPE here does not do.
    """
    data = tokenizer_json.read(path, "BPE")
    model = data["model"]
    for option in _OPTIONS:
        if model.get(option):
            message = f"is {model[option]!r}, which this does not know"
            raise BadInput(message, source=path, field=f"model.{option}")
    if data.get("normalizer"):
        raise BadInput("changes the text first; this encodes it as it is", source=path, field="normalizer")
    special = tokenizer_json.special_of(data, path)
    tokens, vocab = _tokens(model.get("vocab"), special, path)
    merges = _merges(model.get("merges"), vocab, path)
    return tokens, merges, special, _cut(data, path)


def _tokens(vocab: Any, special: Mapping[str, int], path: Path) -> tuple[list[bytes], dict[str, int]]:
    """The tokens by id, and the vocabulary with the special tokens, which a file need not repeat in it."""
    field = "model.vocab"
    whole = {**vocab, **special} if isinstance(vocab, dict) else {}
    tokens = []
    for spelled in tokenizer_json.tokens_by_id(whole, path, field):
        token = spelled.encode("utf-8") if spelled in special else bytes_of(spelled)
        if token is None:
            raise BadInput(f"{spelled!r} has a letter that stands for no byte", source=path, field=field)
        tokens.append(token)
    for byte, letter in enumerate(LETTERS):
        if letter not in whole or letter in special:
            raise BadInput(f"has no token {letter!r} for byte {byte}", source=path, field=field)
    return tokens, whole


def _merges(lines: Any, vocab: Mapping[str, int], path: Path) -> Merges:
    """Merges are written as ["a", "b"], and were as "a b" before version 0.20 of the library."""
    if not isinstance(lines, list):
        raise BadInput("must be a list of pairs", source=path, field="model.merges")
    merges = []
    for place, line in enumerate(lines):
        pair = line.split(" ") if isinstance(line, str) else line
        field = f"model.merges[{place}]"
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(side, str) for side in pair):
            raise BadInput("must be two tokens", source=path, field=field)
        for token in (*pair, "".join(pair)):
            if token not in vocab:
                raise BadInput(f"{token!r} is not in the vocabulary", source=path, field=field)
        merges.append((vocab[pair[0]], vocab[pair[1]], vocab["".join(pair)]))
    return merges


def _cut(data: Mapping[str, Any], path: Path) -> str:
    """The name of the cut. The file is sound but for what is looked at here, so `tokenizers` may read it."""
    with named_errors(path):
        backend = Backend.from_file(str(path))
    found = name_of(backend, whole=False)
    ours = next((cut for cut, theirs in PRESPLIT.items() if theirs == found), None)
    if ours is None:
        raise BadInput(f"cuts text in none of these ways: {', '.join(PRESPLIT)}", source=path, field="pre_tokenizer")
    after = data.get("post_processor")
    if after and after.get("type") != "ByteLevel":  # which only moves offsets
        raise BadInput("adds tokens around a text; this does not", source=path, field="post_processor")
    return ours
