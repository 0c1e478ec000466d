r"""How byte-level BPE cuts a text before it merges: into words with their leading space, numbers, symbols, white space.

Merges are learned inside these pieces and never across them. Two expressions, run by the `regex` package:
- "gpt-2" (Radford et al. 2019, released code): contractions, words, numbers, symbols; a run of spaces leaves its last
  one to the next word.
- "gpt-4" (cl100k of tiktoken): contractions in any case, any single symbol may lead a word, numbers in groups of up to
  three, symbols keep the line ends that follow, and line ends end a run of spaces.
Departure from `tokenizers`: its tables of Unicode are some years older, so letters that Unicode got since then (rare
scripts) are symbols there and letters here.
Read next: text/presplit.py (the cuts of many models, for the Rust engine), text/word_counts.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import regex

from cutaway.base.errors import BadInput


@dataclass(frozen=True)
class Cut:
    """One way to cut. `border` matches, with no width, where a text may be broken in two without changing its pieces.

    That is where no piece crosses and no look-ahead of the piece before sees beyond: in front of white space that
    follows something else. GPT-4's symbols swallow line ends, so there the place is after those.
    """

    name: str
    pattern: str
    border: str

    @cached_property
    def _pattern(self) -> Any:
        return regex.compile(self.pattern)

    @cached_property
    def _border(self) -> Any:
        return regex.compile(self.border)

    def pieces(self, text: str) -> list[str]:
        """The pieces of `text` in order; joined they are the text."""
        return self._pattern.findall(text)

    def chunks(self, texts: Iterable[str], size: int) -> Iterator[list[str]]:
        """All of `texts` in lists of about `size` characters each; a longer text is broken at borders.

        The pieces of the parts are the pieces of the texts. A text without a border stays whole, however long it is.
        """
        chunk: list[str] = []
        room = size
        for text in texts:
            for part in self._parts(text, size) if len(text) > size else (text,):
                chunk.append(part)
                room -= len(part)
                if room <= 0:
                    yield chunk
                    chunk, room = [], size
        if chunk:
            yield chunk

    def _parts(self, text: str, size: int) -> Iterator[str]:
        start = 0
        while start < len(text):
            found = self._border.search(text, start + size)
            end = found.start() if found else len(text)
            yield text[start:end]
            start = end


CUTS: Mapping[str, Cut] = {
    cut.name: cut
    for cut in (
        Cut(
            "gpt-2",
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?<=\S)(?=\s)",
        ),
        Cut(
            "gpt-4",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+",
            r"(?<=\S)(?=[^\S\r\n])|(?<=\S[\r\n]+)(?=\S)",
        ),
    )
}


def cut_named(name: str) -> Cut:
    """The cut of that name. Raises BadInput with the names there are."""
    if name not in CUTS:
        raise BadInput(f"unknown way to cut text {name!r}; known: {', '.join(CUTS)}", field="cut")
    return CUTS[name]
