"""What a tokenizer.json says of a WordPiece tokenizer, checked: only BERT's pipeline is one that the hand-made reads.

Read next: text/wordpiece.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.text import tokenizer_json
from cutaway.text.bert_normaliser import BertNormaliser

_BEGIN, _END, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"


def settings(path: Path) -> tuple[list[str], dict[str, Any]]:
    """The tokens in the order of their ids, and the further arguments of `WordPiece`. Raises BadInput and NotFound."""
    data = tokenizer_json.read(path, "WordPiece")
    model = data["model"]
    prefix, longest = model.get("continuing_subword_prefix", "##"), model.get("max_input_chars_per_word", 100)
    if not isinstance(prefix, str):
        raise BadInput("must be a text", source=path, field="model.continuing_subword_prefix")
    if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
        raise BadInput("must be a number from 1 up", source=path, field="model.max_input_chars_per_word")
    if model.get("unk_token") != _UNKNOWN:
        raise BadInput(f"must be {_UNKNOWN}, not {model.get('unk_token')!r}", source=path, field="model.unk_token")
    _must_be(data.get("pre_tokenizer"), "BertPreTokenizer", "pre_tokenizer", path)
    decoder = data.get("decoder")
    if decoder is not None:
        _must_be(decoder, "WordPiece", "decoder", path)
    return tokenizer_json.tokens_by_id(model.get("vocab"), path), {
        "special": tokenizer_json.special_of(data, path),
        "normaliser": _normaliser(data.get("normalizer"), path),
        "prefix": prefix,
        "longest": longest,
        "framed": _framed(data.get("post_processor"), path),
        "tidy": decoder is None or decoder.get("cleanup") is not False,
    }


def _must_be(step: Any, kind: str, field: str, path: Path) -> None:
    found = step.get("type") if isinstance(step, dict) else step
    if found != kind:
        raise BadInput(f"is {found!r}; BERT's is {kind}", source=path, field=field)


def _normaliser(step: Any, path: Path) -> BertNormaliser:
    if step is None:
        return BertNormaliser(clean=False, chinese=False, strip_accents=False, lowercase=False)
    _must_be(step, "BertNormalizer", "normalizer", path)
    found = {}
    for theirs, ours in (("clean_text", "clean"), ("handle_chinese_chars", "chinese"), ("lowercase", "lowercase")):
        found[ours] = step.get(theirs, True)
    found["strip_accents"] = step.get("strip_accents")
    for name, value in found.items():
        if not isinstance(value, bool) and not (value is None and name == "strip_accents"):
            raise BadInput(f"{name} must be true or false, not {value!r}", source=path, field="normalizer")
    return BertNormaliser(**found)


def _framed(step: Any, path: Path) -> bool:
    """Whether [CLS] and [SEP] go around a text. Raises BadInput for any other frame."""
    if step is None:
        return False
    kind = step.get("type") if isinstance(step, dict) else None
    if kind == "BertProcessing":
        right = [(step.get(role) or [None])[0] for role in ("cls", "sep")] == [_BEGIN, _END]
    else:
        right = kind == "TemplateProcessing" and (
            _spelled(step.get("single")) == [(_BEGIN, 0), ("A", 0), (_END, 0)]
            and _spelled(step.get("pair")) == [(_BEGIN, 0), ("A", 0), (_END, 0), ("B", 1), (_END, 1)]
        )
    if not right:
        raise BadInput("must be BERT's: [CLS] A [SEP] B [SEP]", source=path, field="post_processor")
    return True


def _spelled(template: Any) -> list[tuple[Any, Any]]:
    """[{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", ...}}] as pairs."""
    parts = template if isinstance(template, list) else []
    values = [next(iter(part.values()), None) for part in parts if isinstance(part, Mapping)]
    return [(value.get("id"), value.get("type_id")) for value in values if isinstance(value, Mapping)]
