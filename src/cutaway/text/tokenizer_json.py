"""tokenizer.json, the file in which Hugging Face keeps a tokenizer, written and read for the tokenizers made by hand.

Each of them describes itself as a pipeline of the `tokenizers` library (normalizer, cut, model, decoder, added tokens);
`write` saves that, `read` gives the file back as checked data, and `fast` makes the pipeline the one that runs.
Special tokens are matched whole in a text before anything else, the longest first, and are never part of a merge.
Read next: text/bpe.py, text/character.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.paths import atomic
from cutaway.text.folder import read_json
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.vocabulary import Vocabulary, mark_special

LARGEST = 1 << 24  # no vocabulary in use has a tenth of that; a damaged id must not ask for gigabytes

# What a special token is for, by its usual spelling; of several with one role the first in a vocabulary counts.
_ROLES = {
    "<|endoftext|>": "eos_token",
    "</s>": "eos_token",
    "<eos>": "eos_token",
    "<|begin_of_text|>": "bos_token",
    "<s>": "bos_token",
    "<bos>": "bos_token",
    "[PAD]": "pad_token",
    "<pad>": "pad_token",
    "[UNK]": "unk_token",
    "<unk>": "unk_token",
    "[CLS]": "cls_token",
    "[SEP]": "sep_token",
    "[MASK]": "mask_token",
    "<mask>": "mask_token",
}


def checked_special(special: Iterable[str]) -> tuple[str, ...]:
    """Special tokens as they were given. Raises BadInput for one that is empty, twice there, or no text."""
    if isinstance(special, str):
        raise BadInput("must be a list of texts, not one text", field="special")
    tokens = tuple(special)
    for token in tokens:
        if not isinstance(token, str) or not token.strip():
            raise BadInput(f"{token!r} is no spelling of a special token", field="special")
        if tokens.count(token) > 1:
            raise BadInput(f"{token!r} is there more than once", field="special")
    return tokens


class Specials:
    """The special tokens with their ids, and the one regular expression that finds them in a text."""

    def __init__(self, ids: Mapping[str, int]):
        self.ids = dict(ids)
        longest_first = sorted(self.ids, key=len, reverse=True)
        self._pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if self.ids else None

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """The text in order: (special token, its id) or (a stretch between them, None). Nothing is empty."""
        stretches = self._pattern.split(text) if self._pattern else [text]
        for index, stretch in enumerate(stretches):
            if stretch:
                yield stretch, self.ids[stretch] if index % 2 else None


def checked_ids(ids: Iterable[int], vocab: int) -> Iterator[int]:
    """`ids` one after another. Raises BadInput for one that is not below `vocab`."""
    for index in ids:
        if not 0 <= index < vocab:
            raise BadInput(f"{index} is not an id; there are {vocab}", field="ids")
        yield int(index)


def add_special(backend: Backend, special: Mapping[str, int]) -> Backend:
    """Marks tokens that `backend`'s vocabulary has, or is about to get at its end, as special. Returns `backend`."""
    ordered = sorted(special, key=special.__getitem__)
    mark_special(backend, ordered)
    for token in ordered:
        if backend.token_to_id(token) != special[token]:
            message = f"{token!r} has id {special[token]}, and would get {backend.token_to_id(token)}"
            raise BadInput(message, field="special")
    return backend


def fast(backend: Backend, special: Iterable[str], source: Path | None = None) -> Tokenizer:
    """The same vocabulary on the Rust engine. `special` are named by role where their spelling is a usual one."""
    names: dict[str, str] = {}
    for token in special:
        if token in _ROLES:
            names.setdefault(_ROLES[token], token)
    end = backend.token_to_id(names["eos_token"]) if "eos_token" in names else None
    ends = frozenset() if end is None else frozenset({end})
    return Tokenizer(Vocabulary(backend=backend, names=names, eos_ids=ends, source=source))


def write(path: str | Path, backend: Backend) -> None:
    """Writes the tokenizer.json of `backend` at `path`, all of it or nothing."""
    with atomic(path) as temporary:
        temporary.write_text(backend.to_str(pretty=True) + "\n", encoding="utf-8")


def read(path: str | Path, kind: str) -> dict[str, Any]:
    """The object in a tokenizer.json whose model is a `kind` ("BPE", "WordPiece", "Unigram").

    Raises NotFound, or BadInput naming the field that is missing or of a wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file")
    data = read_json(path)
    model = data.get("model")
    if not isinstance(model, dict):
        raise BadInput("is missing; this is not a tokenizer", source=path, field="model")
    found = model.get("type")
    if found != kind:
        raise BadInput(f"is {found!r}; this reads {kind!r}", source=path, field="model.type")
    return data


def tokens_by_id(vocab: Any, path: str | Path, field: str = "model.vocab") -> list[str]:
    """The tokens of {token: id} in the order of their ids, which must run from 0 without a gap."""
    if not isinstance(vocab, dict) or not vocab:
        raise BadInput("must be an object of tokens with their ids", source=path, field=field)
    tokens: list[str | None] = [None] * len(vocab)
    for token, index in vocab.items():
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < LARGEST:
            raise BadInput(f"its id is {index!r}", source=path, field=f"{field}.{token!r}")
        if index >= len(tokens) or tokens[index] is not None:
            message = f"has id {index}, which leaves a gap or is another's"
            raise BadInput(message, source=path, field=f"{field}.{token!r}")
        tokens[index] = token
    return [token for token in tokens if token is not None]


def special_of(data: Mapping[str, Any], path: str | Path) -> dict[str, int]:
    """The added tokens of a tokenizer.json with their ids. Raises BadInput for one that ours could not match alike."""
    added = data.get("added_tokens") or []
    if not isinstance(added, list):
        raise BadInput(f"must be a list, not a {type(added).__name__}", source=path, field="added_tokens")
    special: dict[str, int] = {}
    for place, token in enumerate(added):
        field = f"added_tokens[{place}]"
        content, index = (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
        if not isinstance(content, str) or not content or not isinstance(index, int) or not 0 <= index < LARGEST:
            raise BadInput("must have a content and an id", source=path, field=field)
        wrong = [option for option in ("single_word", "lstrip", "rstrip") if token.get(option)]
        if wrong or not token.get("special"):
            message = f"{content!r} is {wrong[0] if wrong else 'added and not special'}, which this does not know"
            raise BadInput(message, source=path, field=field)
        special[content] = index
    return special
