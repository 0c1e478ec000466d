"""Plain text: a document a file, or many, with something between them.

Read next: data/readers/jsonl.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cutaway.base.errors import BadInput
from cutaway.data.entry import Entry
from cutaway.data.readers.stream import pieces


def read(path: Path, *, separator: str | None = None) -> Iterator[Entry]:
    """The documents in a text file: the whole of it, or what stands between separators ("\\n\\n": blank lines).

    Documents between separators lose the line ends around them; empty ones are left out. Without a separator the whole
    file is held in memory.
    """
    if separator is None:
        text = "".join(pieces(path))
        if text:
            yield Entry(text, str(path), 1)
        return
    if not separator:
        raise BadInput("an empty separator is everywhere", field="separator")
    line = 1
    for text in split(pieces(path), separator):
        inner = text.strip("\n")
        if inner.strip():
            yield Entry(inner, str(path), line + len(text) - len(text.lstrip("\n")))
        line += text.count("\n") + separator.count("\n")


def split(parts: Iterable[str], separator: str) -> Iterator[str]:
    """`"".join(parts).split(separator)`, one after another."""
    held: list[str] = []  # what has been searched
    tail, overlap = "", len(separator) - 1  # what may be the beginning of a separator
    for part in parts:
        first, *others = (tail + part).split(separator)
        for other in others:
            yield "".join([*held, first])
            held, first = [], other
        cut = max(0, len(first) - overlap)
        held.append(first[:cut])
        tail = first[cut:]
    yield "".join([*held, tail])
