"""BERT's preparation of text: cleaned, Chinese characters set apart, accents and capitals dropped; then cut into words.

Devlin et al. 2018, arXiv 1810.04805, tokenization.py. In order: controls go and every kind of space becomes one; a
space goes around each Chinese character; marks that stand on letters go (NFD first, é -> e and a mark); lower case.
Words are what stands between spaces, and every punctuation character is a word.
`tokenizers` keeps its tables of categories at Unicode 8, so that a vocabulary never changes its meaning: characters of
later versions are plain letters here as well (`_LATER`), and three whose category has changed since keep their old one.
Departures: what Python's own Unicode tables do not know yet has no lower case; U+11938 is decomposed by NFD, there not.
Read next: text/wordpiece.py
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

# Marks, punctuation and controls that came into Unicode after version 8.
_LATER = """61d 7fd 890-8e2 9fd-9fe a76 afa-aff b55 c04-c3c c77 c84 d00 d3b-d3c d81 eba ece 180f-1886 1abf-1ace
1b4e-1b4f 1b7d-1b7f 1df6-1dfb 2e43-2e5d a82c a8c5 a8ff a9bd 10d24-10f89 11070-11074 110c2-110cd 111c9 111cf 1123e 1133b
113b8-113e2 11438-1145e 11660-1166c 116b9 1182f-11fff 12ff1-13455 16d6d-16d6f 16e97-16f4f 16fe2-16fe4 1cf00-1cf46
1e000-1e2ef 1e4ec-1e4ef 1e5ee-1e5ff 1e944-1e95f 897"""
_RANGES = [tuple(int(end, 16) for end in (entry.split("-") * 2)[:2]) for entry in _LATER.split()]
_MARK, _PUNCTUATION = {0x1734}, {0x166D, 0x111C9}  # a mark then and punctuation then, something else today
_ASCII_PUNCTUATION = frozenset(map(ord, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"))
_CHINESE = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F)),
    *((0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),  # 2B920: BERT has 2B820; `tokenizers` decides
)
_SPLIT = "\n"  # what words are cut at, once every kind of space is written so


class _Table(dict[int, str]):
    """For `str.translate`: what each character becomes, worked out the first time it is met."""

    def __init__(self, become: Callable[[int], str]):
        super().__init__()
        self._become = become

    def __missing__(self, code: int) -> str:
        found = self[code] = self._become(code)
        return found


def category(code: int) -> str:
    """The general category of a character in Unicode 8, "Lo" for one that it did not have."""
    if code in _MARK:
        return "Mn"
    if code in _PUNCTUATION:
        return "Po"
    found = unicodedata.category(chr(code))
    if (found[0] == "P" or found in ("Mn", "Cf")) and any(low <= code <= high for low, high in _RANGES):
        return "Lo"
    return found


def is_space(code: int) -> bool:
    """White space as Unicode has it; Python's `isspace` takes four separators of information besides."""
    return chr(code).isspace() and not 0x1C <= code <= 0x1F


def is_chinese(code: int) -> bool:
    """The blocks of CJK ideographs; not kana, not hangul."""
    return any(low <= code <= high for low, high in _CHINESE)


def is_punctuation(code: int) -> bool:
    """Category P, and what ASCII has besides that is neither letter nor digit: $+<=>^`|~."""
    return code in _ASCII_PUNCTUATION or category(code)[0] == "P"


@dataclass(frozen=True, kw_only=True)
class BertNormaliser:
    """`strip_accents` None: as `lowercase` says, which is BERT's rule."""

    clean: bool = True
    chinese: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def __call__(self, text: str) -> str:
        """`text` as the vocabulary knows it."""
        text = text.translate(self._first)
        if self._strips:
            text = unicodedata.normalize("NFD", text)
        return text.translate(self._second)

    @property
    def _strips(self) -> bool:
        return self.lowercase if self.strip_accents is None else self.strip_accents

    @cached_property
    def _first(self) -> _Table:
        def become(code: int) -> str:
            if self.clean:
                if code in (0x9, 0xA, 0xD):
                    return " "
                if code in (0x0, 0xFFFD) or category(code) in ("Cc", "Cf", "Co"):
                    return ""
                if is_space(code):
                    return " "
            return f" {chr(code)} " if self.chinese and is_chinese(code) else chr(code)

        return _Table(become)

    @cached_property
    def _second(self) -> _Table:
        def become(code: int) -> str:
            if self._strips and category(code) == "Mn":
                return ""
            return chr(code).lower() if self.lowercase else chr(code)  # one by one: no final sigma

        return _Table(become)


def words(text: str) -> list[str]:
    """The words of a normalised text, in order; no spaces are left."""
    return [word for word in text.translate(_WORDS).split(_SPLIT) if word]


def _apart(code: int) -> str:
    if is_space(code):
        return _SPLIT
    return f"{_SPLIT}{chr(code)}{_SPLIT}" if is_punctuation(code) else chr(code)


_WORDS = _Table(_apart)
