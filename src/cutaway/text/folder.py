"""A tokenizer from a Hugging Face folder, read as transformers reads it.

tokenizer.json is the whole pipeline, BOS and EOS included, and is taken as it is; tokenizer_config.json (before it:
special_tokens_map.json, added_tokens.json) adds the roles of special tokens and the chat template, which
chat_template.jinja overrides; generation_config.json and config.json say which tokens end a turn. A folder of the time
before tokenizer.json holds vocab.json and merges.txt (text/vocab_files.py).
Departure: a vocabulary whose ids have gaps is refused, as is one with two tokens of one id.
Read next: text/added_tokens.py, text/tokenizer.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from cutaway.base.errors import BadInput, NotFound
from cutaway.text import added_tokens, vocab_files
from cutaway.text.vocabulary import Vocabulary, frame, named_errors

# Either that, or a letter written as an escape, which no writer of these files does and which could hide the word.
_PREFIXED = re.compile(r'"continuing_subword_prefix"\s*:\s*(?!null|""|\s)|\\u00[4-7]')


def read(folder: str | Path) -> Vocabulary:
    """The tokenizer in `folder`. NotFound if there is none; BadInput, naming file and field, if it is broken."""
    folder = Path(folder)
    config_path = folder / "tokenizer_config.json"
    config = read_json(config_path)
    roles = {**read_json(folder / "special_tokens_map.json"), **config}
    bos = eos = ""
    if (folder / "tokenizer.json").is_file():
        source = folder / "tokenizer.json"
        backend = _tokenizer_json(source)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        source = folder / "vocab.json"
        kind = str(config.get("tokenizer_class") or read_json(folder / "config.json").get("model_type") or "")
        backend, defaults = vocab_files.build(read_json(source), source, folder / "merges.txt", kind)
        roles = {**defaults, **roles}
        bos = "bos_token" if config.get("add_bos_token") is True else ""
        eos = "eos_token" if config.get("add_eos_token") is True else ""
    else:
        raise _absent(folder)
    names = added_tokens.names_of(roles, config_path)
    _check_ids(backend, source)
    added_tokens.add(backend, roles, read_json(folder / "added_tokens.json"), names, config_path)
    frame(backend, bos=names.get(bos), eos=names.get(eos))
    return Vocabulary(
        backend=backend,
        names=names,
        eos_ids=_eos_ids(backend, folder, names),
        templates=_templates(folder, config),
        source=source,
    )


def read_json(path: Path) -> dict[str, Any]:
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
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise BadInput(f"is not JSON: {error}", source=path) from error
    if _PREFIXED.search(text):
        text = _checked_prefix(path)
    try:
        with named_errors(path):
            backend = Tokenizer.from_str(text)
    except BadInput as error:
        data = read_json(path)
        if not isinstance(data.get("model"), dict):
            raise BadInput("is missing; this is not a tokenizer", source=path, field="model") from error
        raise BadInput(error.message, source=path, field=_suspect(data, error.message)) from error
    backend.no_truncation()
    backend.no_padding()
    with named_errors(path, "post_processor"):
        backend.encode("")
    return backend


def _checked_prefix(path: Path) -> str:
    """The file again, safe for `tokenizers`, which cuts the prefix off each merge's right half without looking and can
    take the whole process down where it is not there."""
    data = read_json(path)
    model = data.get("model")
    prefix = model.get("continuing_subword_prefix") if isinstance(model, dict) else None
    if isinstance(model, dict) and isinstance(prefix, str) and prefix and isinstance(model.get("merges"), list):
        for index, pair in enumerate(pair for pair in model["merges"] if isinstance(pair, (str, list))):
            right = (
                pair.split(" ")[-1] if isinstance(pair, str) else pair[-1] if isinstance(pair, list) and pair else ""
            )
            if not isinstance(right, str) or not right.startswith(prefix):
                field = f"model.merges[{index}]"
                raise BadInput(f"{right!r} does not begin with {prefix!r}", source=path, field=field)
    return json.dumps(data)


def _suspect(data: Mapping[str, Any], error: str) -> str:
    """The field that the `tokenizers` library means: it gives a line and column, and the file is often one line."""
    if "out of vocabulary" in error or "merge" in error.lower():
        return "model.merges"
    bare = {name: value for name, value in data.items() if name != "model"}
    for name in ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"):
        alone = {**bare, "model": {"type": "BPE", "vocab": {}, "merges": []}, **dict.fromkeys(bare.keys() - {name})}
        alone.update(version="1.0", added_tokens=data.get(name) if name == "added_tokens" else [])
        try:
            Tokenizer.from_str(json.dumps(alone))
        except Exception:
            return name
    return "model"


def _check_ids(backend: Tokenizer, source: Path) -> None:
    vocab = backend.get_vocab(with_added_tokens=True)
    if not vocab:
        raise BadInput("is empty", source=source, field="model.vocab")
    owner = {index: token for token, index in vocab.items()}
    if len(owner) != len(vocab):
        token = next(token for token, index in vocab.items() if owner[index] != token)
        message = f"{token!r} and {owner[vocab[token]]!r} both have id {vocab[token]}"
        raise BadInput(message, source=source, field="model.vocab")
    if max(owner) + 1 != len(owner):
        hole = next(index for index in range(len(owner)) if index not in owner)
        raise BadInput(f"no token has id {hole}, of ids up to {max(owner)}", source=source, field="model.vocab")


def _eos_ids(backend: Tokenizer, folder: Path, names: Mapping[str, str]) -> frozenset[int]:
    size = backend.get_vocab_size()
    found = {backend.token_to_id(names["eos_token"])} if "eos_token" in names else set()
    for name in ("generation_config.json", "config.json"):
        value = read_json(folder / name).get("eos_token_id")
        for index in value if isinstance(value, list) else [value]:
            if index is not None and (not isinstance(index, int) or isinstance(index, bool)):
                raise BadInput(f"must be a token's id, not {index!r}", source=folder / name, field="eos_token_id")
            found.add(index)
    return frozenset(index for index in found if index is not None and 0 <= index < size)


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates by name: those in files of their own, or else those in the configuration."""
    separate = [("default", folder / "chat_template.jinja")]
    separate += [(path.stem, path) for path in sorted(folder.glob("additional_chat_templates/*.jinja"))]
    found = {}
    for name, path in separate:
        if path.is_file():
            try:
                found[name] = path.read_text(encoding="utf-8")
            except ValueError as error:
                raise BadInput(f"is not UTF-8: {error}", source=path) from error
    return found or _named(config.get("chat_template"), folder / "tokenizer_config.json")


def _named(value: Any, source: Path) -> dict[str, str]:
    """`chat_template` in the configuration: one text, or a list of {"name", "template"}."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": value}
    if not isinstance(value, list):
        raise BadInput(f"must be a text or a list, not a {type(value).__name__}", source=source, field="chat_template")
    templates = {}
    for index, item in enumerate(value):
        texts = [item.get(key) for key in ("name", "template")] if isinstance(item, dict) else []
        if not texts or not all(isinstance(text, str) for text in texts):
            raise BadInput("must have a name and a template", source=source, field=f"chat_template[{index}]")
        templates[texts[0]] = texts[1]
    return templates
