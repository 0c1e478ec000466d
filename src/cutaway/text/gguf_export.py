"""A tokenizer as GGUF metadata, the inverse of text/gguf_vocab.py.

A file holds tokens by id with their types, and merges (byte-level BPE) or scores (SentencePiece's BPE). A score is the
negated place of the first merge that makes a piece; where scores cannot say what the merges do, the merges are written
beside them: transformers and Cutaway read those, llama.cpp goes by the scores. What GGUF has no key for is refused,
except Unicode normalisation to NFC (Qwen), which its readers leave out too.
Read next: text/presplit.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from cutaway.base.errors import BadInput
from cutaway.text import spm
from cutaway.text.gguf_vocab import KEY, TURN_ENDS
from cutaway.text.presplit import name_of
from cutaway.text.vocabulary import Vocabulary

_ID_KEYS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def metadata(vocabulary: Vocabulary) -> dict[str, Any]:
    """The `tokenizer.*` keys: texts, ints, bools and lists of them (scores: floats). Raises BadInput."""
    backend = vocabulary.backend
    state = json.loads(backend.to_str())
    if state["model"].get("type") != "BPE":
        raise _refused(vocabulary, f"a {state['model'].get('type')} model; only BPE can be written to GGUF")
    if state["model"].get("continuing_subword_prefix") or state["model"].get("end_of_word_suffix"):
        raise _refused(vocabulary, "words with marked ends (GPT-1) cannot be written to GGUF")
    tokens = _tokens(backend)
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in state["model"]["merges"]]
    if "ByteLevel" in type(backend.decoder).__name__:
        kind = _byte_level(vocabulary, state, merges)
        types = _types(backend, tokens, byte=False)
    else:
        types = _types(backend, tokens, byte=True)
        kind = _sentencepiece(vocabulary, state, tokens, types, merges)
    return {
        **{KEY + name: value for name, value in kind.items()},
        KEY + "tokens": tokens,
        KEY + "token_type": types,
        **_ids(vocabulary),
        **_ends(vocabulary),
        **{_template_key(name): text for name, text in vocabulary.templates.items()},
    }


def _refused(vocabulary: Vocabulary, message: str) -> BadInput:
    return BadInput(message, source=vocabulary.source, field="tokenizer")


def _tokens(backend: Tokenizer) -> list[str]:
    by_id = {index: token for token, index in backend.get_vocab(with_added_tokens=True).items()}
    return [by_id[index] for index in range(len(by_id))]


def _types(backend: Tokenizer, tokens: list[str], *, byte: bool) -> list[int]:
    types = [1] * len(tokens)
    if byte:
        types = [spm.BYTE if len(token) == 6 and token.startswith("<0x") else 1 for token in tokens]
    for index, token in backend.get_added_tokens_decoder().items():
        types[index] = spm.CONTROL if token.special else spm.USER_DEFINED
    return types


def _byte_level(vocabulary: Vocabulary, state: Mapping[str, Any], merges: list[tuple[str, ...]]) -> dict[str, Any]:
    cut = name_of(vocabulary.backend, whole=bool(state["model"].get("ignore_merges")))
    if cut is None:
        raise _refused(vocabulary, "it cuts text before merging in a way that GGUF has no name for")
    normalizer = (state.get("normalizer") or {"type": "NFC"})["type"]
    if normalizer != "NFC":
        raise _refused(vocabulary, f"it normalises text ({normalizer}), which GGUF cannot say")
    return {"model": "gpt2", "pre": cut, "merges": [" ".join(pair) for pair in merges]}


def _sentencepiece(
    vocabulary: Vocabulary, state: Mapping[str, Any], tokens: list[str], types: list[int], merges: list[tuple[str, ...]]
) -> dict[str, Any]:
    prefix = _prefix(state)
    if prefix is None or not state["model"].get("byte_fallback"):
        raise _refused(vocabulary, "neither byte-level BPE nor SentencePiece's with bytes to fall back on")
    place: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        place.setdefault("".join(pair), rank)
    scores = [-float(place.get(token, len(merges))) for token in tokens]
    unknown = vocabulary.id_of("unk_token")
    if unknown is not None:
        types[unknown] = 2
    unmade = frozenset(index for index, kind in enumerate(types) if kind in (spm.CONTROL, spm.BYTE))
    whole = {tokens[index] for index in unmade}
    wanted = [pair for pair in merges if "".join(pair) not in whole]
    written = {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": prefix}
    if spm.merges_of(tokens, scores, unmade) != wanted:
        written["merges"] = [" ".join(pair) for pair in wanted]
    return written


def _prefix(state: Mapping[str, Any]) -> bool | None:
    """Whether a text begins with a space; None where spaces are not written as SentencePiece does."""
    text = json.dumps([state.get("normalizer"), state.get("pre_tokenizer")], ensure_ascii=False)
    if "▁" not in text:
        return None
    return "Prepend" in text or '"prepend_scheme": "first"' in text or '"prepend_scheme": "always"' in text


def _ids(vocabulary: Vocabulary) -> dict[str, Any]:
    """Special tokens by role, and whether BOS and EOS are put around texts, found by encoding one."""
    ids = {role: vocabulary.id_of(role) for role in _ID_KEYS}
    if ids["eos_token"] is None and vocabulary.eos_ids:
        ids["eos_token"] = min(vocabulary.eos_ids)
    bare = vocabulary.backend.encode("a", add_special_tokens=False).ids
    framed = vocabulary.backend.encode("a", add_special_tokens=True).ids
    before = framed[: len(framed) - len(bare)] if framed[len(framed) - len(bare) :] == bare else framed[:1]
    after = framed[len(before) + len(bare) :]
    return {
        **{f"{KEY}{key}_token_id": ids[role] for role, key in _ID_KEYS.items() if ids[role] is not None},
        KEY + "add_bos_token": bool(before) and before == [ids["bos_token"]],
        KEY + "add_eos_token": bool(after) and after == [ids["eos_token"]],
    }


def _ends(vocabulary: Vocabulary) -> dict[str, Any]:
    """Ids that end a turn and that a reader would not find by their names; GGUF has two keys for them."""
    marked = {token.content for token in vocabulary.backend.get_added_tokens_decoder().values()}
    known = {vocabulary.backend.token_to_id(token) for token in TURN_ENDS & marked}
    others = sorted(vocabulary.eos_ids - known - {vocabulary.id_of("eos_token")})
    return {f"{KEY}{key}_token_id": index for key, index in zip(("eot", "eom"), others, strict=False)}


def _template_key(name: str) -> str:
    return "tokenizer.chat_template" + ("" if name == "default" else f".{name}")
