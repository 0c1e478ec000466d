"""What a tokenizer is given: text, and nothing else.   Read next: text/unigram.py, text/wordpiece.py"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from cutaway.base.errors import BadInput

_HALF = re.compile("[\ud800-\udfff]")


def checked_text(text: str, field: str = "text") -> str:
    """`text` itself. Raises BadInput for what is no text, half of a surrogate pair included."""
    if not isinstance(text, str):
        raise BadInput(f"only text can be encoded, not a {type(text).__name__}", field=field)
    half = _HALF.search(text)
    if half is not None:
        message = f"character {half.start()} is half of a surrogate pair, which is no text"
        raise BadInput(message, field=field)
    return text


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """`texts`, each looked at as it passes. Raises BadInput for one that is no text."""
    if isinstance(texts, (str, bytes)):
        raise BadInput(f"must be many texts, not one {type(texts).__name__}", field="texts")
    for index, text in enumerate(texts):
        yield checked_text(text, f"texts[{index}]")
