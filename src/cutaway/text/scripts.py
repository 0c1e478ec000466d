"""Where a unigram piece may not reach across: a change of script, and a space anywhere but in front.

SentencePiece's rules for its pieces (trainer_interface.cc): letters of one script; kana and Chinese characters count as
one script; digits, punctuation and symbols as one; a mark goes with what it stands on; `▁`, which is a space, only
begins a piece. Here line ends and other controls are a class of their own as well, for SentencePiece never sees any.
Departure: a letter's script is read from its Unicode name, whose first word it is ("GREEK SMALL LETTER ALPHA").
Since no piece crosses such a border, a text can be cut there once and for all, and each stretch counted once.
Read next: text/unigram_training.py
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

SPACE = "▁"
_WORD = re.compile(f"{SPACE}[^{SPACE}]*|[^{SPACE}]+")
_SAME = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK", "IDEOGRAPHIC": "CJK"}
INHERITED, COMMON, CONTROL = "inherited", "common", "control"


@lru_cache(maxsize=1 << 16)
def script(character: str) -> str:
    """The script of a letter, as "LATIN" or "CJK"; for other characters the class they count as."""
    category = unicodedata.category(character)
    if category[0] == "M":
        return INHERITED
    if category[0] in "CZ" and category != "Cf":
        return CONTROL
    if category[0] != "L":
        return INHERITED if category == "Cf" else COMMON  # Cf: the joiners inside an emoji or an Indic word
    words = unicodedata.name(character, "CJK").split()
    first = words[1] if words[0] in ("FULLWIDTH", "HALFWIDTH") and len(words) > 1 else words[0]
    return _SAME.get(first, first)


def words(text: str) -> list[str]:
    """`text`, spaces written as `▁`, cut in front of every space; joined again they are the text."""
    return _WORD.findall(text)


def stretches(word: str) -> list[str]:
    """`word` cut wherever no piece may reach across."""
    cuts, before = [0], ""
    for index, character in enumerate(word):
        if character == SPACE:
            if index:
                cuts.append(index)
            before = ""
            continue
        now = script(character)
        if now == INHERITED:
            continue
        if before and now != before:
            cuts.append(index)
        before = now
    return [word[low:high] for low, high in zip(cuts, [*cuts[1:], len(word)], strict=True)]


def count(texts: Iterable[str]) -> Counter[str]:
    """How often each stretch occurs in `texts` (spaces written as `▁`)."""
    counted: Counter[str] = Counter()
    for text in texts:
        counted.update(words(text))
    return stretched(counted)


def stretched(counted: Mapping[str, int]) -> Counter[str]:
    """How often each stretch occurs in words of which each occurs so often."""
    total: Counter[str] = Counter()
    for word, times in counted.items():
        for stretch in stretches(word):
            total[stretch] += times
    return total
