"""One token for each character that a corpus has: the smallest tokenizer, and the longest sequences.

Karpathy's char-rnn (2015) and nanoGPT's shakespeare_char. Ids: special tokens first, then the characters by code point.
A character here is a Unicode code point: an emoji may be several. One that the corpus lacks becomes the unknown token,
if there is one among the special tokens, and is refused otherwise; decode(encode(x)) is x for all others.
In a tokenizer.json this is a BPE without merges.
Read next: text/bpe.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from cutaway.base.errors import BadInput
from cutaway.text import tokenizer_json
from cutaway.text.corpus import checked_text, checked_texts
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.tokenizer_json import Specials, checked_ids, checked_special


class Character:
    """A vocabulary of characters: `tokens[i]` is what id i stands for. Made by `train` or `load`."""

    def __init__(self, tokens: Sequence[str], special: Mapping[str, int], unknown: str | None = None):
        """`special` are those of `tokens` that are matched whole, with their ids; `unknown` is one of them."""
        if unknown is not None and unknown not in special:
            raise BadInput(f"{unknown!r} is none of the special tokens", field="unknown")
        self.tokens = tuple(tokens)
        self.special = dict(special)
        self.unknown = unknown
        self._specials = Specials(self.special)
        self._ids = {token: index for index, token in enumerate(self.tokens) if token not in self.special}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab: int | None = None,
        special: Sequence[str] = (),
        unknown: str | None = None,
    ) -> Character:
        """The characters of `texts`, at most as many as make `vocab` tokens: the most frequent, of equals the first.

        Raises BadInput for an empty corpus, and for a `vocab` that leaves characters out where none may be `unknown`.
        """
        marked = checked_special(special)
        counts: Counter[str] = Counter()
        for text in checked_texts(texts):
            counts.update(text)
        if not counts:
            raise BadInput("there is no text in it", field="corpus")
        found = sorted(counts.keys() - set(marked), key=lambda character: (-counts[character], character))
        room = len(found) if vocab is None else vocab - len(marked)
        if room < 1 or (room < len(found) and unknown is None):
            message = f"is {vocab}; {len(found)} characters and {len(marked)} special tokens need"
            raise BadInput(f"{message} {len(found) + len(marked)}, or an unknown token", field="vocab")
        return cls([*marked, *sorted(found[:room])], {token: index for index, token in enumerate(marked)}, unknown)

    @property
    def vocab(self) -> int:
        """How many ids there are."""
        return len(self.tokens)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """One id for each character. Nothing is put around them, so `special` makes no difference.

        Raises BadInput for a character that is not known, unless there is an unknown token.
        """
        ids: list[int] = []
        for stretch, index in self._specials.split(checked_text(text)):
            ids += [index] if index is not None else [self._id(character) for character in stretch]
        return ids

    def _id(self, character: str) -> int:
        known = self._ids.get(character)
        if known is not None:
            return known
        if self.unknown is None:
            raise BadInput(f"{character!r} is not in the vocabulary, which has no unknown token", field="text")
        return self.special[self.unknown]

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """The text of `ids`; `special` keeps special tokens, the unknown one among them. BadInput for what is no id."""
        tokens = (self.tokens[index] for index in checked_ids(ids, self.vocab))
        return "".join(token for token in tokens if special or token not in self.special)

    def backend(self) -> Backend:
        """The same vocabulary as a pipeline of the `tokenizers` library; it drops what ours refuses as unknown."""
        vocab = {token: index for index, token in enumerate(self.tokens)}
        backend = Backend(models.BPE(vocab=vocab, merges=[], unk_token=self.unknown))
        backend.decoder = decoders.Fuse()  # type: ignore[assignment]
        return tokenizer_json.add_special(backend, self.special)

    def fast(self) -> Tokenizer:
        """The same vocabulary on the Rust engine, for use."""
        return tokenizer_json.fast(self.backend(), self.special)

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json, which the `tokenizers` library loads with the same ids."""
        tokenizer_json.write(path, self.backend())

    @classmethod
    def load(cls, path: str | Path) -> Character:
        """Reads what `save` wrote. Raises BadInput naming the field that is broken or not of this kind."""
        path = Path(path)
        data = tokenizer_json.read(path, "BPE")
        for field in ("normalizer", "pre_tokenizer", "post_processor"):
            if data.get(field):
                raise BadInput("is there; a vocabulary of characters has none", source=path, field=field)
        if data["model"].get("merges"):
            raise BadInput("is not empty; this is no vocabulary of characters", source=path, field="model.merges")
        special = tokenizer_json.special_of(data, path)
        vocab = data["model"].get("vocab")
        tokens = tokenizer_json.tokens_by_id({**vocab, **special} if isinstance(vocab, dict) else vocab, path)
        for token in tokens:
            if len(token) != 1 and token not in special:
                raise BadInput(f"{token!r} is not one character", source=path, field="model.vocab")
        unknown = data["model"].get("unk_token")
        if unknown is not None and unknown not in special:
            raise BadInput(f"{unknown!r} is none of the added tokens", source=path, field="model.unk_token")
        return cls(tokens, special, unknown)
