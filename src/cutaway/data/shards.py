"""Tokenised documents on the disk: memory-mapped, so that a corpus may be far larger than the memory.

A set of shards is a folder: 00000.tokens.npy (uint16, or uint32 where the vocabulary needs it), 00000.lengths.npy (the
tokens of each document), 00000.json (what the shard was made from, written last: a shard without it does not count),
and at the very end meta.json. Which documents go into which shard depends on the texts alone.
Read next: data/encoding.py (writing), data/packing.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.paths import atomic
from cutaway.data.documents import stretched
from cutaway.text.tokenizer import Tokenizer

FORMAT = 1
META = "meta.json"


@dataclass(frozen=True, kw_only=True)
class Coding:
    """What ids depend on besides the text. `begin` and `end`: ids put around each document, None for nothing."""

    tokenizer: str  # its fingerprint
    vocab: int
    begin: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        for name in ("begin", "end"):
            held = getattr(self, name)
            if held is not None and not 0 <= held < self.vocab:
                raise BadInput(f"{held} is no id of a vocabulary of {self.vocab}", field=f"Coding.{name}")

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, begin: int | None = None, end: int | None = None) -> Coding:
        return cls(tokenizer=fingerprint(tokenizer), vocab=tokenizer.vocab, begin=begin, end=end)

    @property
    def dtype(self) -> str:
        return "uint16" if self.vocab <= 1 << 16 else "uint32"


def engine(tokenizer: Tokenizer) -> str:
    """The whole tokenizer as the JSON that the `tokenizers` library reads."""
    return tokenizer.vocabulary.backend.to_str()


def fingerprint(tokenizer: Tokenizer) -> str:
    """16 hexadecimal digits; tokenizers that differ in anything differ in them."""
    return hashlib.sha256(engine(tokenizer).encode("utf-8")).hexdigest()[:16]


def parts(folder: Path, index: int) -> tuple[Path, Path, Path]:
    """The files of one shard: tokens, lengths, record."""
    stem = f"{index:05}"
    return folder / f"{stem}.tokens.npy", folder / f"{stem}.lengths.npy", folder / f"{stem}.json"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises BadInput, naming it, if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot be read: {error}", source=path) from error
    if not isinstance(value, dict):
        raise BadInput("must hold an object", source=path)
    return value


class Shards:
    """The documents of one finished set of shards, as `Documents`. Raises NotFound where there is none.

    `meta`: what meta.json says. `coding`: which tokenizer made them.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        place = self.folder / META
        if not place.is_file():
            begun = (self.folder / parts(Path(), 0)[2]).is_file()
            why = "preparing it was not finished; prepare it again to go on" if begun else f"there is no {META}"
            raise NotFound(f"{self.folder}: no prepared corpus ({why})")
        self.meta = read_json(place)
        if self.meta.get("format") != FORMAT:
            raise BadInput(f"written in format {self.meta.get('format')!r}, not {FORMAT}", source=place, field="format")
        self.coding = _coding(self.meta.get("coding"), place)
        records = self.meta.get("shards")
        if not isinstance(records, list) or not records:
            raise BadInput("must be a list of shards", source=place, field="shards")
        held = [_lengths(self.folder, index, record, place) for index, record in enumerate(records)]
        self.lengths = np.concatenate(held)
        self._firsts = np.cumsum([0, *(len(lengths) for lengths in held)])  # number of each shard's first document
        self._edges = np.cumsum([0, *(int(lengths.sum()) for lengths in held)])  # tokens before each shard
        self._starts = np.cumsum(self.lengths) - self.lengths
        self._maps: list[np.ndarray | None] = [None] * len(held)  # opened when first read
        self._reads = [lambda start, stop, index=index: self._map(index)[start:stop] for index in range(len(held))]

    @property
    def tokens(self) -> int:
        return int(self._edges[-1])

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        index = int(np.searchsorted(self._firsts, document, side="right")) - 1
        first = int(self._starts[document] - self._edges[index])
        return self._map(index)[first + start : first + stop]

    def stretch(self, start: int, stop: int) -> np.ndarray:
        return stretched(self._reads, self._edges, start, stop)

    def check(self, tokenizer: Tokenizer) -> None:
        """Raises BadInput unless these ids are those of `tokenizer`."""
        mark = fingerprint(tokenizer)
        if mark != self.coding.tokenizer:
            message = f"tokenised with another tokenizer ({self.coding.tokenizer}) than this one ({mark})"
            raise BadInput(message, source=self.folder / META, field="coding.tokenizer")

    def _map(self, index: int) -> np.ndarray:
        found = self._maps[index]
        if found is None:
            path = parts(self.folder, index)[0]
            expected = int(self._edges[index + 1] - self._edges[index])
            found = self._maps[index] = _array(path, np.dtype(self.coding.dtype), expected, mapped=True)
        return found


def _coding(value: Any, source: Path) -> Coding:
    try:
        return Coding(**value)
    except (TypeError, BadInput) as error:
        raise BadInput(f"does not say how it was tokenised: {error}", source=source, field="coding") from error


def _lengths(folder: Path, index: int, record: Any, source: Path) -> np.ndarray:
    counts = [record.get(name) if isinstance(record, dict) else None for name in ("documents", "tokens")]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise BadInput("must count documents and tokens", source=source, field=f"shards[{index}]")
    path = parts(folder, index)[1]
    lengths = _array(path, np.dtype(np.int64), counts[0], mapped=False)
    if int(lengths.sum()) != counts[1] or (len(lengths) and int(lengths.min()) < 0):
        raise BadInput(f"damaged: {int(lengths.sum())} tokens, {counts[1]} expected", source=path)
    return lengths


def _array(path: Path, dtype: np.dtype, count: int | None, *, mapped: bool) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r" if mapped and count else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"damaged, or not there: {error}", source=path) from error
    if array.shape != (count,) or array.dtype != dtype:
        raise BadInput(f"damaged: {array.dtype} {array.shape}, expected {dtype} ({count},)", source=path)
    return array


def is_whole(folder: Path, index: int, record: Mapping[str, Any], coding: Coding) -> bool:
    """Whether shard `index` stands on the disk, made from the text and with the coding that `record` names."""
    tokens, lengths, written = parts(folder, index)
    if not written.is_file():
        return False
    try:
        found = read_json(written)
        if any(found.get(name) != value for name, value in {**record, "coding": asdict(coding)}.items()):
            return False
        _array(tokens, np.dtype(coding.dtype), found["tokens"], mapped=True)
        _lengths(folder, index, found, written)
    except (BadInput, KeyError):
        return False
    return lengths.is_file()
