"""A tokenizer from a Hugging Face folder, read as transformers reads it.

tokenizer.json is the whole pipeline, BOS and EOS included, and is taken as it is; tokenizer_config.json (before it:
special_tokens_map.json, added_tokens.json) adds the roles of special tokens and the chat template, which
chat_template.jinja overrides; generation_config.json and config.json say which tokens end a turn. A folder of the time
before tokenizer.json holds vocab.json and merges.txt: GPT-2's byte-level BPE, Qwen2's, or GPT-1's lower-cased words.
Read next: text/tokenizer.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from cutaway.base.errors import BadInput, NotFound
from cutaway.text.presplit import presplit
from cutaway.text.vocabulary import Vocabulary, frame, mark_special

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LARGEST_ID = 1 << 24


def read(folder: str | Path) -> Vocabulary:
    """The tokenizer in `folder`. NotFound if there is none; BadInput, naming file and field, if it is broken."""
    folder = Path(folder)
    config = _json(folder / "tokenizer_config.json")
    roles = {**_json(folder / "special_tokens_map.json"), **config}
    if (folder / "tokenizer.json").is_file():
        source, bos, eos = folder / "tokenizer.json", None, None
        backend = _tokenizer_json(source)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        source = folder / "vocab.json"
        backend, defaults = _vocab_and_merges(folder, config)
        roles = {**defaults, **roles}
        bos = "bos_token" if config.get("add_bos_token") is True else None
        eos = "eos_token" if config.get("add_eos_token") is True else None
    else:
        raise _absent(folder)
    names = {role: text for role in _ROLES if (text := _token_text(roles.get(role), role, folder)) is not None}
    _add_tokens(backend, folder, roles, names)
    _check_ids(backend, source)
    frame(backend, bos=names.get(bos or ""), eos=names.get(eos or ""))
    return Vocabulary(
        backend=backend,
        names=names,
        eos_ids=_eos_ids(backend, folder, names),
        templates=_templates(folder, config),
        source=source,
    )


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is no such file."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}", source=path) from error
    if not isinstance(data, dict):
        raise BadInput(f"must hold an object, not a {type(data).__name__}", source=path)
    return data


def _absent(folder: Path) -> Exception:
    for name in ("tokenizer.model", "tekken.json", "tiktoken.model"):
        if (folder / name).is_file():
            return BadInput(
                "only this; a tokenizer.json is needed, which transformers writes with AutoTokenizer.save_pretrained",
                source=folder / name,
            )
    return NotFound(f"{folder}: no tokenizer.json, and no vocab.json with merges.txt")


def _tokenizer_json(path: Path) -> Tokenizer:
    try:
        backend = Tokenizer.from_file(str(path))
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # a panic of the Rust side
            raise
        data = _json(path)
        if not isinstance(data.get("model"), dict):
            raise BadInput("is missing; this is not a tokenizer", source=path, field="model") from error
        raise BadInput(f"{_one_line(error)}", source=path, field=_suspect(data, error)) from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _suspect(data: Mapping[str, Any], error: BaseException) -> str:
    """The field that the `tokenizers` library means; it gives lines and columns of a file that is one line."""
    text = str(error)
    if "out of vocabulary" in text or "merge" in text.lower():
        return "model.merges"
    kinds = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens")
    wanted = {name: name.replace("_", "") for name in kinds}
    found = next((name for name, spelled in wanted.items() if spelled in text.replace("_", "").lower()), None)
    return found or ("model" if "version" in data else "version")


def _vocab_and_merges(folder: Path, config: Mapping[str, Any]) -> tuple[Tokenizer, dict[str, str]]:
    vocab = _json(folder / "vocab.json")
    for token, index in vocab.items():
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < _LARGEST_ID:
            raise BadInput(f"its id is {index!r}", source=folder / "vocab.json", field=repr(token))
    merges = _merges(folder / "merges.txt", vocab)
    kind = str(config.get("tokenizer_class") or _json(folder / "config.json").get("model_type") or "")
    if "openai" in kind.lower() or any(token.endswith("</w>") for token in vocab):
        return _words(vocab, merges), {"unk_token": "<unk>"}
    qwen = "qwen" in kind.lower()
    backend = Tokenizer(BPE(vocab=vocab, merges=merges, continuing_subword_prefix="", end_of_word_suffix=""))
    if qwen:
        backend.normalizer = normalizers.NFC()  # type: ignore[assignment]
    backend.pre_tokenizer = presplit("qwen2" if qwen else "gpt-2").pre_tokenizer()
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    end = "<|endoftext|>"
    if end not in vocab:
        return backend, {}
    return backend, {"eos_token": end, "unk_token": end, **({} if qwen else {"bos_token": end})}


def _merges(path: Path, vocab: Mapping[str, Any]) -> list[tuple[str, str]]:
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
    model = BPE(vocab=vocab, merges=merges, unk_token=unknown, continuing_subword_prefix="", end_of_word_suffix="</w>")
    backend = Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    backend.decoder = decoders.BPEDecoder(suffix="</w>")  # type: ignore[assignment]
    return backend


def _token_text(value: Any, role: str, folder: Path) -> str | None:
    """A special token is written as a text or as {"content": text, ...}."""
    if isinstance(value, dict):
        value = value.get("content")
    if value is None or isinstance(value, str):
        return value or None
    raise BadInput(f"must be a text, not a {type(value).__name__}", source=folder / "tokenizer_config.json", field=role)


def _add_tokens(backend: Tokenizer, folder: Path, roles: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Tokens that only the configuration knows, at the ids it gives them; then the special ones by role."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    added: dict[int, AddedToken] = {}
    for key, value in (roles.get("added_tokens_decoder") or {}).items():
        content = value.get("content") if isinstance(value, dict) else None
        if not key.isdigit() or not isinstance(content, str):
            field = f"added_tokens_decoder.{key}"
            raise BadInput("must be an id with a token", source=folder / "tokenizer_config.json", field=field)
        flags = {name: bool(value.get(name, name == "normalized")) for name in ("lstrip", "rstrip", "single_word")}
        special = bool(value.get("special", False))
        normalized = bool(value.get("normalized", not special))
        added[int(key)] = AddedToken(content, special=special, normalized=normalized, **flags)
    if not added:
        special = set(names.values())
        for content, index in _json(folder / "added_tokens.json").items():
            added[index] = AddedToken(content, special=content in special, normalized=content not in special)
    for index, token in sorted(added.items()):
        if token.content not in known:
            backend.add_tokens([token])
            if backend.token_to_id(token.content) != index:
                field = f"added_tokens_decoder.{index}"
                message = f"{token.content!r} would get id {backend.token_to_id(token.content)}"
                raise BadInput(message, source=folder / "tokenizer_config.json", field=field)
    extra = roles.get("extra_special_tokens") or roles.get("additional_special_tokens") or []
    extra = list(extra.values()) if isinstance(extra, dict) else extra
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    texts = [*names.values(), *(_token_text(token, "extra_special_tokens", folder) or "" for token in extra)]
    mark_special(backend, [text for text in dict.fromkeys(texts) if text and text not in known])


def _check_ids(backend: Tokenizer, source: Path) -> None:
    vocab = backend.get_vocab(with_added_tokens=True)
    ids = set(vocab.values())
    if not vocab:
        raise BadInput("is empty", source=source, field="model.vocab")
    if len(ids) != len(vocab):
        seen: dict[int, str] = {}
        for token, index in vocab.items():
            if index in seen:
                message = f"{seen[index]!r} and {token!r} both have id {index}"
                raise BadInput(message, source=source, field="model.vocab")
            seen[index] = token
    if max(ids) + 1 != len(ids):
        hole = next(index for index in range(len(ids)) if index not in ids)
        raise BadInput(f"no token has id {hole}, of ids up to {max(ids)}", source=source, field="model.vocab")


def _eos_ids(backend: Tokenizer, folder: Path, names: Mapping[str, str]) -> frozenset[int]:
    size = backend.get_vocab_size()
    found = {backend.token_to_id(names["eos_token"])} if "eos_token" in names else set()
    for name in ("generation_config.json", "config.json"):
        value = _json(folder / name).get("eos_token_id")
        for index in value if isinstance(value, list) else [value]:
            if index is not None and (not isinstance(index, int) or isinstance(index, bool)):
                raise BadInput(f"must be a token's id, not {index!r}", source=folder / name, field="eos_token_id")
            found.add(index)
    return frozenset(index for index in found if index is not None and 0 <= index < size)


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    templates: dict[str, str] = {}
    value = config.get("chat_template")
    if isinstance(value, str):
        templates["default"] = value
    elif isinstance(value, dict):
        templates.update({str(name): text for name, text in value.items() if isinstance(text, str)})
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if not (
                isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("template"), str)
            ):
                field = f"chat_template[{index}]"
                raise BadInput("must have a name and a template", source=folder / "tokenizer_config.json", field=field)
            templates[item["name"]] = item["template"]
    elif value is not None:
        message = f"must be a text or a list, not a {type(value).__name__}"
        raise BadInput(message, source=folder / "tokenizer_config.json", field="chat_template")
    separate = [("default", folder / "chat_template.jinja")]
    separate += [(path.stem, path) for path in sorted(folder.glob("additional_chat_templates/*.jinja"))]
    found = {name: path.read_text(encoding="utf-8") for name, path in separate if path.is_file()}
    return found or templates


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
