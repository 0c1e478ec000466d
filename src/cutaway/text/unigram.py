"""Unigram tokenization: of all ways to write a text with the vocabulary's pieces, the most probable one.

Kudo 2018, "Subword Regularization", arXiv 1804.10959; SentencePiece, Kudo and Richardson 2018.

    x* = argmax over cuts x of the text of the sum of log p(x_i)      (text/viterbi.py; training: unigram_training.py)

A space is written `▁` and begins a word; one is put in front of a text and taken off again by `decode`, which so does
not bring back spaces at the very beginning. Characters that are no piece become their UTF-8 bytes, `<0xE4>`, or
one unknown token for a run of them. `sample` draws other cuts than the best: Kudo's regularisation.
Departures from SentencePiece: no normalisation, line ends and all spaces are kept; byte pieces score less than any six
pieces, so that the letters "<0x41>" in a text are not read as a byte where each of them is a piece.
Read next: text/viterbi.py, text/unigram_training.py
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from cutaway.base.errors import BadInput
from cutaway.text import scripts, tokenizer_json
from cutaway.text.corpus import checked_text, checked_texts
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.tokenizer_json import checked_ids
from cutaway.text.unigram_training import learn
from cutaway.text.viterbi import Cut, Cutter
from cutaway.text.vocabulary import named_errors

UNKNOWN = "<unk>"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_CACHED = 1 << 16  # words whose ids are remembered

Scheme = Literal["first", "always", "never"]


class Unigram:
    """`pieces` are all tokens with their scores (natural log-probabilities), in the order of their ids.

    `unknown` is the id of the unknown token; `special` says which tokens are matched whole in a text, with their ids;
    `scheme` where a space is put in front: at the first stretch between special tokens, at every one, or never.
    """

    def __init__(
        self,
        pieces: Sequence[tuple[str, float]],
        *,
        unknown: int | None = 0,
        byte_fallback: bool = False,
        special: dict[str, int] | None = None,
        scheme: Scheme = "first",
        source: Path | None = None,
    ):
        self.pieces = tuple(pieces)
        self.unknown, self.byte_fallback, self.source = unknown, byte_fallback, source
        self.scheme: Scheme = scheme
        self._ids = {piece: index for index, (piece, _) in enumerate(self.pieces)}
        self._tokens = [piece for piece, _ in self.pieces]
        self._specials = tokenizer_json.Specials(special or {})
        for token, index in sorted(self._specials.ids.items(), key=lambda item: item[1]):
            if self._ids.get(token, len(self._tokens)) != index:
                raise BadInput(f"{token!r} cannot have id {index}", source=source, field="special")
            if token not in self._ids:
                self._tokens.append(token)
        if unknown is not None and not 0 <= unknown < len(self.pieces):
            raise BadInput(f"there is no token {unknown}", source=source, field="unknown")
        self._cutter = Cutter(dict(self.pieces))
        self._known: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab: int,
        special: Sequence[str] = (),
        coverage: float = 0.9995,
        byte_fallback: bool = True,
        prefix: bool = True,
    ) -> Unigram:
        """Learn `vocab` tokens from `texts`: the unknown token, `special`, 256 bytes (`byte_fallback`), then pieces.

        `coverage` is the share of the characters in `texts` that become pieces, the most frequent ones (SentencePiece's
        default); the others are written in bytes, or are unknown. Fewer than `vocab` tokens come of a small corpus.
        Raises BadInput for texts without text, and for a vocabulary that cannot hold the characters.
        """
        tokens = tokenizer_json.checked_special(special)
        if not 0 < coverage <= 1:
            raise BadInput(f"must be above 0 and at most 1, not {coverage}", field="coverage")
        front = [*([] if UNKNOWN in tokens else [UNKNOWN]), *tokens]
        taken = len(front) + 256 * byte_fallback
        scheme: Scheme = "first" if prefix else "never"
        finder = tokenizer_json.Specials(dict.fromkeys(tokens, 0))
        counted = scripts.count(
            _marked(stretch, scheme, first)
            for text in checked_texts(texts)
            for stretch, token, first in _sections(finder, text)
            if token is None
        )
        try:
            learned = learn(counted, size=vocab - taken, coverage=coverage)
        except BadInput as error:
            if error.field != "vocab" or not taken:
                raise
            message = f"{vocab} tokens, of which {taken} are special ones and bytes: {error.message}"
            raise BadInput(message, field="vocab") from error
        learned = [(piece, score) for piece, score in learned if piece not in front]
        low = 7 * min(score for _, score in learned)
        pieces = [(token, 0.0) for token in front] + [(byte, low) for byte in BYTES[: 256 * byte_fallback]] + learned
        return cls(
            pieces,
            unknown=front.index(UNKNOWN),
            byte_fallback=byte_fallback,
            special={token: index for index, token in enumerate(front)},
            scheme=scheme,
        )

    @property
    def vocab(self) -> int:
        """How many ids there are."""
        return len(self._tokens)

    @property
    def special(self) -> dict[str, int]:
        return dict(self._specials.ids)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The ids of the most probable cut of `text`. Nothing is put around it, so `special` makes no difference."""
        return self._encode(text, self._remembered)

    def sample(self, text: str, *, smoothing: float = 0.1, random: Random | None = None) -> list[int]:
        """The ids of a cut drawn from all, with probability proportional to its own to the power of `smoothing`.

        Give `random` a seed for the same cuts again. Decoding gives the same text as the best cut does.
        """
        if not (smoothing >= 0 and math.isfinite(smoothing)):
            raise BadInput(f"must be a number from 0 up, not {smoothing}", field="smoothing")
        chance = random or Random()
        return self._encode(text, lambda word: self._numbers(word, self._cutter.sample(word, chance, smoothing)))

    def log_likelihood(self, text: str) -> float:
        """log of the probability of `text` summed over all its cuts; special tokens in it count as certain."""
        total = 0.0
        for stretch, token, first in _sections(self._specials, checked_text(text)):
            if token is None:
                words = scripts.words(_marked(stretch, self.scheme, first))
                total += sum(self._cutter.log_likelihood(word) for word in words)
        return total

    def _encode(self, text: str, cut: Callable[[str], list[int]]) -> list[int]:
        ids: list[int] = []
        for stretch, token, first in _sections(self._specials, checked_text(text)):
            if token is not None:
                ids.append(token)
                continue
            for word in scripts.words(_marked(stretch, self.scheme, first)):
                ids += cut(word)
        return ids

    def _remembered(self, word: str) -> list[int]:
        found = self._known.get(word)
        if found is None:
            found = self._numbers(word, self._cutter.best(word))
            if len(self._known) < _CACHED:
                self._known[word] = found
        return found

    def _numbers(self, word: str, cut: Cut) -> list[int]:
        ids: list[int] = []
        waiting = ""  # a run of unknown characters becomes one token
        for start, end in cut:
            piece = word[start:end]
            index = self._ids.get(piece)
            if index is None or index == self.unknown:
                waiting += piece
                continue
            if waiting:
                ids += self._spelled(waiting)
                waiting = ""
            ids.append(index)
        return ids + self._spelled(waiting) if waiting else ids

    def _spelled(self, text: str) -> list[int]:
        """The ids of characters that are no pieces."""
        if self.byte_fallback:
            ids = [self._ids.get(BYTES[byte]) for byte in text.encode("utf-8")]
            if None not in ids:
                return [index for index in ids if index is not None]
        if self.unknown is None:
            raise BadInput(f"{text!r} is not in the vocabulary, which has no unknown token", source=self.source)
        return [self.unknown]

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """The text of `ids`; `special` keeps special tokens. A run of bytes that is no UTF-8 gives one U+FFFD each.

        Raises BadInput for an id that is not in the vocabulary.
        """
        skipped = frozenset() if special else frozenset(self._specials.ids.values())
        tokens = [self._tokens[index] for index in checked_ids(ids, self.vocab) if index not in skipped]
        parts: list[str] = []
        run = bytearray()
        for token in [*tokens, ""]:
            found = _BYTE.fullmatch(token) if self.byte_fallback else None
            if found:
                run.append(int(found[1], 16))
                continue
            if run:
                parts += _characters(bytes(run))
                run.clear()
            parts.append(token)
        strip = self.scheme != "never"
        return "".join(
            part.replace(scripts.SPACE, "" if strip and place == 0 else " ") for place, part in enumerate(parts)
        )

    def backend(self) -> Backend:
        """The same tokenizer as a pipeline of the `tokenizers` library."""
        with named_errors(self.source):
            model = models.Unigram(list(self.pieces), unk_id=self.unknown, byte_fallback=self.byte_fallback)
            backend = Backend(model)
        scheme: Any = self.scheme
        backend.pre_tokenizer = pre_tokenizers.Metaspace(  # type: ignore[assignment]
            replacement=scripts.SPACE, prepend_scheme=scheme
        )
        metaspace = decoders.Metaspace(replacement=scripts.SPACE, prepend_scheme=scheme)
        steps = decoders.Sequence([decoders.ByteFallback(), metaspace]) if self.byte_fallback else metaspace
        backend.decoder = steps  # type: ignore[assignment]
        return tokenizer_json.add_special(backend, self._specials.ids)

    def fast(self) -> Tokenizer:
        """The same vocabulary on the Rust engine."""
        return tokenizer_json.fast(self.backend(), self._specials.ids, self.source)

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json, which the `tokenizers` library loads with the same ids."""
        tokenizer_json.write(path, self.backend())

    @classmethod
    def load(cls, path: str | Path) -> Unigram:
        """From a tokenizer.json. Raises BadInput, naming the field, for a pipeline that is not this one."""
        path = Path(path)
        data = tokenizer_json.read(path, "Unigram")
        model = data["model"]
        cut = data.get("pre_tokenizer")
        if data.get("normalizer") is not None:
            raise BadInput("must be null: this one keeps text as it is", source=path, field="normalizer")
        if data.get("post_processor") is not None:
            raise BadInput("must be null: this one puts nothing around a text", source=path, field="post_processor")
        if not isinstance(cut, dict) or cut.get("type") != "Metaspace" or cut.get("split") is False:
            raise BadInput("must be a Metaspace that splits", source=path, field="pre_tokenizer")
        scheme = cut.get("prepend_scheme", "always")
        if scheme not in ("first", "always", "never") or cut.get("replacement") != scripts.SPACE:
            raise BadInput("must write a space as ▁, first, always or never", source=path, field="pre_tokenizer")
        unknown = model.get("unk_id")
        if unknown is not None and (not isinstance(unknown, int) or isinstance(unknown, bool)):
            raise BadInput(f"must be an id, not {unknown!r}", source=path, field="model.unk_id")
        return cls(
            _pieces(model.get("vocab"), path),
            unknown=unknown,
            byte_fallback=model.get("byte_fallback") is True,
            special=tokenizer_json.special_of(data, path),
            scheme=scheme,
            source=path,
        )


def _sections(specials: tokenizer_json.Specials, text: str) -> Iterable[tuple[str, int | None, bool]]:
    """(stretch, id of the special token it is or None, whether the text begins with it)."""
    first = True
    for stretch, token in specials.split(text):
        yield stretch, token, first
        first = False


def _marked(text: str, scheme: Scheme, first: bool) -> str:
    """`text` with its spaces written as `▁`, and one in front where there is none and `scheme` wants it."""
    marked = text.replace(" ", scripts.SPACE)
    wanted = scheme == "always" or (scheme == "first" and first)
    return scripts.SPACE + marked if wanted and not marked.startswith(scripts.SPACE) else marked


def _characters(run: bytes) -> list[str]:
    try:
        return [run.decode("utf-8")]
    except UnicodeDecodeError:
        return ["\ufffd"] * len(run)


def _pieces(vocab: Any, path: Path) -> list[tuple[str, float]]:
    if not isinstance(vocab, list) or not vocab:
        raise BadInput("must be a list of pieces with their scores", source=path, field="model.vocab")
    pieces: list[tuple[str, float]] = []
    seen: set[str] = set()
    for index, item in enumerate(vocab):
        field = f"model.vocab[{index}]"
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
            raise BadInput("must be a piece and its score", source=path, field=field)
        piece, score = item
        if not isinstance(score, (int, float)) or isinstance(score, bool) or not math.isfinite(score):
            raise BadInput(f"{piece!r} has the score {score!r}", source=path, field=field)
        if piece in seen or not piece:
            raise BadInput(f"{piece!r} is empty or there already", source=path, field=field)
        seen.add(piece)
        pieces.append((piece, float(score)))
    return pieces
