"""Byte-level byte-pair encoding: any text, or any bytes, as tokens that were frequent in a corpus.

Radford et al. 2019 (GPT-2), section 2.2, after Sennrich, Haddow, Birch 2016 (arXiv 1508.07909).
Training: cut the corpus into pieces; write each as its UTF-8 bytes; merge the most frequent pair of neighbours into a
new token until there are enough. Encoding: cut; replay the merges on each piece. Every byte is a token, so nothing is
unknown, and decode(encode(x)) is x.
Ids: special tokens first, then the 256 bytes in the order of their printable spellings, then the merges as learned; all
as the `tokenizers` library has it, from the same corpus, as long as neither knows a letter that the other does not
(text/patterns.py). Like there, special tokens that are spelled out in a training corpus are cut as ordinary text.
Departure: a special token is decoded as it is spelled, also where that has letters which stand for bytes.
Read next: text/patterns.py, text/word_counts.py, text/pair_counts.py, text/merges.py, text/bpe_file.py
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from cutaway.base.errors import BadInput
from cutaway.base.progress import track
from cutaway.text import bpe_file, tokenizer_json
from cutaway.text.bpe_file import LETTERS, PRESPLIT, bytes_of, spelling
from cutaway.text.corpus import checked_text
from cutaway.text.merges import LONG, joined
from cutaway.text.pair_counts import merges_kept
from cutaway.text.patterns import cut_named
from cutaway.text.presplit import presplit
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.tokenizer_json import Specials, checked_ids, checked_special
from cutaway.text.word_counts import counted

_REMEMBERED = 1 << 16  # pieces whose ids are kept: most of a text is words that it has had before


class BytePair:
    """A vocabulary: `tokens[i]` is what id i stands for, as bytes. Made by `train` or `load`."""

    def __init__(
        self, tokens: Sequence[bytes], merges: Sequence[tuple[int, int, int]], special: Mapping[str, int], cut: str
    ):
        """`merges` are (left id, right id, id they make) in the order in which they were learned."""
        self.tokens = tuple(tokens)
        self.merges = tuple(merges)
        self.special = dict(special)
        self.cut = cut_named(cut)
        self._specials = Specials(self.special)
        self._ranks = {(left, right): (rank, new) for rank, (left, right, new) in enumerate(self.merges)}
        marked = frozenset(self.special.values())
        whole = {token: index for index, token in enumerate(self.tokens) if index not in marked}
        self._ids = [whole[bytes([byte])] for byte in range(256)]
        self._remembered: dict[bytes, list[int]] = {}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab: int,
        special: Sequence[str] = (),
        cut: str = "gpt-2",
        least: int = 1,
        processes: int | None = None,
    ) -> BytePair:
        """Learns `vocab` tokens from `texts`, or fewer if it runs out of pairs that occur at least `least` times.

        No piece reaches over the end of a text. `processes` count words side by side (None: one for each core) and
        change nothing but the time. Raises BadInput for an empty corpus, and for a vocabulary too small for the bytes.
        """
        marked = checked_special(special)
        smallest = 256 + len(marked)
        if vocab < smallest:
            raise BadInput(f"is {vocab}; 256 bytes and {len(marked)} special tokens need {smallest}", field="vocab")
        for token in marked:
            if token in LETTERS:
                raise BadInput(f"{token!r} is how a byte is spelled", field="special")
        words = counted(texts, cut_named(cut), processes)
        if not words:
            raise BadInput("there is no text in it", field="corpus")
        order = sorted(range(256), key=LETTERS.__getitem__)
        tokens = [token.encode("utf-8") for token in marked] + [bytes([byte]) for byte in order]
        ids = [len(marked) + order.index(byte) for byte in range(256)]
        merges = []
        frequent = takewhile(lambda merge: merge[2] >= max(1, least), merges_kept(words, ids))
        for left, right, _ in track(islice(frequent, vocab - smallest), "merging pairs", vocab - smallest):
            merges.append((left, right, len(tokens)))
            tokens.append(tokens[left] + tokens[right])
        for token in marked:
            if bytes_of(token) in tokens[smallest:]:
                raise BadInput(f"{token!r} is also a token that merges make; spell it otherwise", field="special")
        return cls(tokens, merges, {token: index for index, token in enumerate(marked)}, cut)

    @property
    def vocab(self) -> int:
        """How many ids there are."""
        return len(self.tokens)

    def encode(self, text: str | bytes, special: bool = True) -> list[int]:
        """The ids of `text`; special tokens that are spelled out in it are those tokens.

        Nothing is put around it, so `special`, which every tokenizer takes, makes no difference.
        `bytes` need not be UTF-8: one that is no part of a character is cut as a symbol, and comes back as it was.
        """
        errors = "surrogateescape" if isinstance(text, bytes) else "strict"
        text = text.decode("utf-8", errors) if isinstance(text, bytes) else checked_text(text)
        ids: list[int] = []
        for stretch, index in self._specials.split(text):
            if index is not None:
                ids.append(index)
                continue
            for piece in self.cut.pieces(stretch):
                ids += self._piece(piece.encode("utf-8", errors))
        return ids

    def _piece(self, piece: bytes) -> list[int]:
        known = self._remembered.get(piece)
        if known is None:
            known = joined([self._ids[byte] for byte in piece], self._ranks)
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            if len(piece) < LONG:
                self._remembered[piece] = known
        return known

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """The text of `ids`, with U+FFFD for bytes that are no character; `special` keeps special tokens."""
        return self.decode_bytes(ids, special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int], special: bool = False) -> bytes:
        """The bytes of `ids`. Raises BadInput for an id that is not in the vocabulary."""
        left_out = frozenset() if special else frozenset(self.special.values())
        return b"".join(self.tokens[index] for index in checked_ids(ids, self.vocab) if index not in left_out)

    def backend(self) -> Backend:
        """The same vocabulary as a pipeline of the `tokenizers` library."""
        named = {index: token for token, index in self.special.items()}
        spelled = [named.get(index) or spelling(token) for index, token in enumerate(self.tokens)]
        model = models.BPE(
            vocab={token: index for index, token in enumerate(spelled)},
            merges=[(spelled[left], spelled[right]) for left, right, _ in self.merges],
        )
        backend = Backend(model)
        backend.pre_tokenizer = presplit(PRESPLIT[self.cut.name]).pre_tokenizer()
        backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        return tokenizer_json.add_special(backend, self.special)

    def fast(self) -> Tokenizer:
        """The same vocabulary on the Rust engine, for use."""
        return tokenizer_json.fast(self.backend(), self.special)

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json, which the `tokenizers` library loads with the same ids."""
        tokenizer_json.write(path, self.backend())

    @classmethod
    def load(cls, path: str | Path) -> BytePair:
        """Reads a tokenizer.json of a byte-level BPE, whoever wrote it. See `bpe_file.read` for what it refuses."""
        return cls(*bpe_file.read(Path(path)))
