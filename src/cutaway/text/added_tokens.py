"""Tokens that a folder's configuration adds to its tokenizer, at the ids it gives them.

tokenizer_config.json holds them as `added_tokens_decoder` (by id, with how each is matched), an older added_tokens.json
by text; the special ones are named by role ("eos_token") and in `extra_special_tokens`.
Read next: text/folder.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from cutaway.base.errors import BadInput
from cutaway.text.vocabulary import mark_special

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def names_of(config: Mapping[str, Any], source: Path) -> dict[str, str]:
    """The special tokens by role: those that the configuration names."""
    found = {role: text_of(config.get(role), role, source) for role in _ROLES}
    return {role: text for role, text in found.items() if text is not None}


def text_of(value: Any, field: str, source: Path) -> str | None:
    """A special token is written as a text or as {"content": text, ...}."""
    if isinstance(value, Mapping):
        value = value.get("content")
    if value is None or isinstance(value, str):
        return value or None
    raise BadInput(f"must be a text, not a {type(value).__name__}", source=source, field=field)


def add(
    backend: Tokenizer, config: Mapping[str, Any], older: Mapping[str, Any], names: Mapping[str, str], source: Path
) -> None:
    """Adds to `backend` what it does not know yet. `older` is added_tokens.json. Raises BadInput naming the token."""
    added = _by_id(config.get("added_tokens_decoder"), source) or _older(older, set(names.values()), source)
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for index, token in sorted(added.items()):
        if token.content not in known:
            backend.add_tokens([token])
            got = backend.token_to_id(token.content)
            if got != index:
                raise BadInput(
                    f"{token.content!r} has id {index}, and would get {got}", source=source, field="added tokens"
                )
    field = "extra_special_tokens"
    extra = config.get(field) or config.get("additional_special_tokens") or []
    extra = list(extra.values()) if isinstance(extra, dict) else extra
    if not isinstance(extra, list):
        raise BadInput(f"must be a list, not a {type(extra).__name__}", source=source, field=field)
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    texts = [*names.values(), *(text_of(token, field, source) or "" for token in extra)]
    mark_special(backend, [text for text in dict.fromkeys(texts) if text and text not in known])


def _by_id(table: Any, source: Path) -> dict[int, AddedToken]:
    field = "added_tokens_decoder"
    if table is not None and not isinstance(table, dict):
        raise BadInput(f"must be an object, not a {type(table).__name__}", source=source, field=field)
    tokens = {}
    for key, value in (table or {}).items():
        content = value.get("content") if isinstance(value, dict) else None
        if not key.isdecimal() or not isinstance(content, str):
            raise BadInput("must be an id with a token", source=source, field=f"{field}.{key}")
        special = bool(value.get("special", False))
        how = {name: bool(value.get(name, False)) for name in ("lstrip", "rstrip", "single_word")}
        normalized = bool(value.get("normalized", not special))
        tokens[int(key)] = AddedToken(content, special=special, normalized=normalized, **how)
    return tokens


def _older(table: Mapping[str, Any], special: set[str], source: Path) -> dict[int, AddedToken]:
    tokens = {}
    for content, index in table.items():
        if not isinstance(index, int) or isinstance(index, bool):
            raise BadInput(f"its id is {index!r}", source=source.with_name("added_tokens.json"), field=repr(content))
        tokens[index] = AddedToken(content, special=content in special, normalized=content not in special)
    return tokens
