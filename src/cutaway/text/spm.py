"""SentencePiece's byte-pair encoding, rebuilt from a list of pieces and scores.

Kudo and Richardson 2018, section 3. SentencePiece merges the neighbouring pair whose joined piece scores best; a
`tokenizers` BPE merges the pair that stands first in a list of pairs. The two agree when the list holds every way to
cut a piece into two others, best score first; of one score, the longer left half first, as in transformers.
Characters outside the vocabulary become their UTF-8 bytes, `<0xE4>`; a space is written `▁`.
Departures from SentencePiece, all shared with transformers: a text that begins with a space gets no second one in
front; of two overlapping ways to make one piece (`aaa`) the first in the list wins and not the leftmost; and Gemma's
order of merging is its pieces' order in the file, for the scores of its runs of spaces say nothing.
Read next: text/gguf_vocab.py
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

CONTROL, USER_DEFINED, UNUSED, BYTE = 3, 4, 5, 6  # tokenizer.ggml.token_type; 1 is a plain piece, 2 the unknown one


def respelled(token: str) -> str:
    """GGUF files of Gemma store runs of spaces as they are; every other piece writes a space as `▁`."""
    return "▁" * len(token) if token and not token.strip(" ") else token


def merges_of(pieces: Sequence[str], scores: Sequence[float], skipped: frozenset[int]) -> list[tuple[str, str]]:
    """Every pair of pieces that joins to a third, in the order in which they merge. Ids in `skipped` are not made.

    262,144 pieces of Gemma give 500,000 pairs in one to two seconds.
    """
    known = set(pieces)
    ranked = sorted((index for index in range(len(pieces)) if index not in skipped), key=lambda index: -scores[index])
    pairs: list[tuple[str, str]] = []
    for _, group in groupby(ranked, key=lambda index: scores[index]):
        ways = []
        for index in group:
            piece = pieces[index]
            for cut in range(len(piece) - 1, 0, -1):
                if piece[:cut] in known and piece[cut:] in known:
                    ways.append((piece[:cut], piece[cut:]))
        ways.sort(key=lambda way: (-len(way[0]), -len(way[1])))  # stable: then by place in the file
        pairs += ways
    return pairs


def build(vocab: dict[str, int], merges: list[tuple[str, str]], *, unknown: str | None, prefix: bool) -> Tokenizer:
    """A tokenizer over SentencePiece's pieces. `prefix`: a text begins with a space that decoding takes off again."""
    byte_fallback = all(f"<0x{byte:02X}>" in vocab for byte in range(256))
    model = BPE(vocab=vocab, merges=merges, fuse_unk=True, byte_fallback=byte_fallback, unk_token=unknown)
    backend = Tokenizer(model)
    scheme: Any = "first" if prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(  # type: ignore[assignment]
        replacement="▁", prepend_scheme=scheme, split=False
    )
    strip = [decoders.Strip(content=" ", left=1, right=0)] if prefix else []
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    backend.decoder = decoders.Sequence(steps)  # type: ignore[assignment]
    return backend
