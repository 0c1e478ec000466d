"""A tokenizer from the metadata of a GGUF file, which holds a vocabulary and merges or scores, and no pipeline.

`tokenizer.ggml.model` says which kind: "gpt2" is byte-level BPE (merges; `tokenizer.ggml.pre` names how text is cut
before, text/presplit.py), "llama" is SentencePiece's BPE (scores, text/spm.py). Token types: 3 control and 4
user-defined tokens are matched whole in a text, 6 are single bytes.
Equal to transformers reading the same file, except where the file says more than transformers hears: a `pre` that
transformers does not know (smollm) is honoured here and read as GPT-2's there; so are `add_space_prefix` = false
outside Gemma, BOS by default for the Llama-3 cut, and control tokens with characters outside the byte alphabet.
Unicode normalisation (Qwen's NFC) is not recorded in GGUF, so that neither reader applies it.
Read next: text/gguf_export.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE

from cutaway.text import spm
from cutaway.text.fields import Fields
from cutaway.text.presplit import presplit
from cutaway.text.vocabulary import Vocabulary, frame, mark_special

KEY = "tokenizer.ggml."
MODELS = ("gpt2", "llama")
_ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_SPM_DEFAULTS = {"bos_token": 1, "eos_token": 2, "unk_token": 0}  # of files older than the keys
_ENDS = ("eot", "eom")
# Chat models end a turn with one of these whether or not their file says so, as llama.cpp also holds.
TURN_ENDS = frozenset(
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<EOT>"]
)


def read(metadata: Mapping[str, Any], source: str | Path | None = None) -> Vocabulary:
    """The tokenizer that `metadata` describes. Raises BadInput naming `source` and the key that is wrong."""
    fields = Fields(metadata, source)
    model = fields.text(KEY + "model")
    if model not in MODELS:
        raise fields.bad(f"unknown kind of tokenizer {model!r}; known: {', '.join(MODELS)}", KEY + "model")
    tokens = [token or f"[EMPTY_{index}]" for index, token in enumerate(fields.texts(KEY + "tokens"))]
    if model == "llama":
        tokens = [spm.respelled(token) for token in tokens]
    vocab = _vocab(fields, tokens)
    types = [1] * len(tokens)
    if KEY + "token_type" in metadata:
        types = fields.numbers(KEY + "token_type", len(tokens), whole=True)
    names = _names(fields, tokens, model)
    add_bos = fields.flag(KEY + "add_bos_token", model == "llama")
    if model == "llama":
        backend = _sentencepiece(fields, tokens, types, vocab, names)
    else:
        cut = presplit(fields.text(KEY + "pre", "default"), source)
        backend = _byte_level(fields, vocab, whole=cut.whole)
        backend.pre_tokenizer = cut.pre_tokenizer()
        add_bos = fields.flag(KEY + "add_bos_token", cut.bos)
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == spm.CONTROL]
    mark_special(backend, list(dict.fromkeys([*special, *names.values()])))
    own = [token for token, kind in zip(tokens, types, strict=True) if kind == spm.USER_DEFINED]
    backend.add_tokens([AddedToken(token, normalized=False) for token in own if token.strip("▁")])
    add_eos = fields.flag(KEY + "add_eos_token", False)
    frame(backend, bos=names.get("bos_token") if add_bos else None, eos=names.get("eos_token") if add_eos else None)
    return Vocabulary(
        backend=backend,
        names=names,
        eos_ids=_eos_ids(fields, vocab, names, {*special, *own}),
        templates=_templates(fields),
        source=None if source is None else Path(source),
    )


def _vocab(fields: Fields, tokens: list[str]) -> dict[str, int]:
    vocab = {token: index for index, token in enumerate(tokens)}
    if not tokens:
        raise fields.bad("is empty", KEY + "tokens")
    if len(vocab) != len(tokens):
        second = next(index for index, token in enumerate(tokens) if vocab[token] != index)
        raise fields.bad(f"{tokens[second]!r} is there twice, as {second} and {vocab[tokens[second]]}", KEY + "tokens")
    return vocab


def _names(fields: Fields, tokens: list[str], model: str) -> dict[str, str]:
    names = {}
    for role, key in _ROLES.items():
        index = fields.token(f"{KEY}{key}_token_id", len(tokens))
        if index is None and model == "llama":
            index = _SPM_DEFAULTS.get(role)
        if index is not None and index < len(tokens):
            names[role] = tokens[index]
    return names


def _eos_ids(fields: Fields, vocab: dict[str, int], names: Mapping[str, str], marked: set[str]) -> frozenset[int]:
    told = [fields.token(f"{KEY}{key}_token_id", len(vocab)) for key in _ENDS]
    known = [vocab[token] for token in TURN_ENDS if token in marked]
    own = [vocab[names["eos_token"]]] if "eos_token" in names else []
    return frozenset(index for index in (*told, *known, *own) if index is not None)


def _templates(fields: Fields) -> dict[str, str]:
    start = "tokenizer.chat_template"
    templates = {"default": fields.text(start)} if start in fields.metadata else {}
    for key in fields.metadata:
        if key.startswith(start + "."):
            templates[key.removeprefix(start + ".")] = fields.text(key)
    return templates


def _sentencepiece(
    fields: Fields, tokens: list[str], types: list[int], vocab: dict[str, int], names: Mapping[str, str]
) -> Tokenizer:
    gemma = str(fields.metadata.get("general.architecture", "")).startswith("gemma")
    if gemma:
        scores: list[float] = [-index for index in range(len(tokens))]
    else:
        scores = fields.numbers(KEY + "scores", len(tokens))
    if KEY + "merges" in fields.metadata:
        merges = _merges(fields, vocab)
    else:
        unmade = frozenset(index for index, kind in enumerate(types) if kind in (spm.CONTROL, spm.BYTE))
        merges = spm.merges_of(tokens, scores, unmade)
    prefix = fields.flag(KEY + "add_space_prefix", not gemma)
    return spm.build(vocab, merges, unknown=names.get("unk_token"), prefix=prefix)


def _byte_level(fields: Fields, vocab: dict[str, int], *, whole: bool) -> Tokenizer:
    backend = Tokenizer(BPE(vocab=vocab, merges=_merges(fields, vocab), ignore_merges=whole))
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return backend


def _merges(fields: Fields, vocab: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for index, line in enumerate(fields.texts(KEY + "merges")):
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise fields.bad(f"item {index} must be two tokens with a space between, not {line!r}", KEY + "merges")
        for token in (left, right, left + right):
            if token not in vocab:
                raise fields.bad(f"item {index} ({line!r}) names {token!r}, which is no token", KEY + "merges")
        merges.append((left, right))
    return merges
