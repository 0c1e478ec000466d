"""What can be trained on and encoded: texts of whole characters.

A Python string may hold half of a surrogate pair (a file name, bad JSON), which no encoding of Unicode can write.
Read next: text/word_counts.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cutaway.base.errors import BadInput


def checked_text(text: str, field: str = "text", *, source: Path | None = None) -> str:
    """`text` itself. Raises BadInput for what is no text, and for half a character, with its place."""
    if not isinstance(text, str):
        raise BadInput(f"must be a text, not a {type(text).__name__}", source=source, field=field)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = f"character {error.start} is half of a surrogate pair, which is no text"
        raise BadInput(message, source=source, field=field) from error
    return text


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts of a corpus one after another, each checked when it is taken; errors give its number from 0."""
    if isinstance(texts, (str, bytes)):
        raise BadInput("must be a list of texts, not one text", field="corpus")
    for index, text in enumerate(texts):
        yield checked_text(text, f"corpus: text {index}")
