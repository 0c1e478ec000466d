"""Tokenizers of the time before tokenizer.json: vocab.json (token -> id) and merges.txt (one pair a line).

Three kinds are told apart by the folder's `tokenizer_class` or `model_type`, or by the vocabulary itself: GPT-2's
byte-level BPE, Qwen2's (another cut, and text brought to NFC first), and GPT-1's lower-cased words that end in `</w>`.
Read next: text/folder.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from cutaway.base.errors import BadInput
from cutaway.text.presplit import presplit

_LARGEST_ID = 1 << 24
_END = "<|endoftext|>"


def build(vocab: Mapping[str, Any], vocab_path: Path, merges_path: Path, kind: str) -> tuple[Tokenizer, dict[str, str]]:
    """The tokenizer, and the special tokens by role that this kind has unless its configuration says otherwise."""
    for token, index in vocab.items():
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < _LARGEST_ID:
            raise BadInput(f"its id is {index!r}", source=vocab_path, field=repr(token))
    checked = dict(vocab)
    merges = _merges(merges_path, checked)
    if "openai" in kind.lower() or any(token.endswith("</w>") for token in checked):
        return _words(checked, merges), {"unk_token": "<unk>"}
    qwen = "qwen" in kind.lower()
    backend = Tokenizer(BPE(vocab=checked, merges=merges))
    if qwen:
        backend.normalizer = normalizers.NFC()  # type: ignore[assignment]
    backend.pre_tokenizer = presplit("qwen2" if qwen else "gpt-2").pre_tokenizer()
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    if _END not in checked:
        return backend, {}
    return backend, {"eos_token": _END, "unk_token": _END, **({} if qwen else {"bos_token": _END})}


def _merges(path: Path, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    merges = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise BadInput(f"is not UTF-8: {error}", source=path) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.rstrip("\r").partition(" ")
        for token in (left, right, left + right):
            if token not in vocab:
                raise BadInput(f"{token!r} is not in vocab.json", source=path, field=f"line {number}")
        merges.append((left, right))
    return merges


def _words(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """GPT-1: text is lower-cased and stripped of accents, cut at spaces and punctuation, and words end in `</w>`."""
    unknown = "<unk>" if "<unk>" in vocab else None
    model = BPE(vocab=vocab, merges=merges, unk_token=unknown, end_of_word_suffix="</w>")
    backend = Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    backend.decoder = decoders.BPEDecoder(suffix="</w>")  # type: ignore[assignment]
    return backend
