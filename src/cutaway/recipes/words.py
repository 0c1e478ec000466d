"""Which share of what a model writes are words at all: those of the corpus that it has read.

A word is a stretch of letters as long as it goes, with their combining marks; apostrophes between letters belong to it
(o'er, is one), however they are written; all else (digits, hyphens, underscores, asterisks) parts words. Case does not
count. What a stretch of Chinese is cut into nobody has written down: there the figure says nothing.
    share = words written that occur in the corpus / words written
Read next: recipes/language.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

_WORD = re.compile(r"[^\W\d_](?:['’]?[^\W\d_]|[\u0300-\u036f])*")
TEXTS = 20  # drawn at most, so that a model that writes no words comes to an end


def words(text: str) -> list[str]:
    """The words of a text, in order, in lower case."""
    return [word.replace("’", "'") for word in _WORD.findall(text.casefold())]


def share_known(written: Collection[str], known: Collection[str]) -> float:
    """How many of the words `written` are among those `known`, from 0 to 1; 0 where none were written.

    `known`: a set, or whatever else is quickly asked.
    """
    return sum(word in known for word in written) / len(written) if written else 0.0


def drawn(draw: Callable[[int], str], count: int) -> list[str]:
    """The first `count` words of the texts that `draw` gives for 0, 1, 2 and so on, `TEXTS` of them at most.

    The last word of each text is left out: it may have been cut short.
    """
    found: list[str] = []
    for number in range(TEXTS):
        found += words(draw(number))[:-1]
        if len(found) >= count:
            break
    return found[:count]
