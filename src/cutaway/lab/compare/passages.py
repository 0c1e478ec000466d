"""Passages of a text: its last tenth is read, from what is before small models learn.

B passages · T position.   Read next: data/readers/sources.py, lab/compare/haystack.py
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.data.readers import sources
from cutaway.text.tokenizer import Tokenizer
from cutaway.weights import corpora

HELD = 10  # the last 1 / HELD of a text is read


def passages(tokenizer: Tokenizer, text: str, count: int, length: int) -> Tensor:
    """`count` passages of the last tenth of a text, evenly apart, with what the tokenizer puts first, (B, T).

    Raises BadInput where that is too short.
    """
    whole = read_text(text)
    part = whole[-max(1, len(whole) // HELD) :][: 40 * count * length]
    lead = tokenizer.encode("")
    ids, body = tokenizer.encode(part, special=False), length - len(lead)
    if len(ids) < body:
        said = f"its last tenth, which is read, has {len(ids)} tokens: {length} are asked for"
        raise BadInput(said, source=text)
    starts = [(len(ids) - body) * at // max(1, count - 1) for at in range(count)]
    return torch.tensor([lead + ids[start : start + body] for start in starts])


@lru_cache(maxsize=1)
def read_text(text: str) -> str:
    """All documents of a source, one behind the other. Raises NotFound and BadInput as their reader does."""
    return "\n".join(entry.text for entry in sources.read([corpora.located(text)]))


def learned(text: str) -> str:
    """The part of a text that the small models learn from."""
    whole = read_text(text)
    return whole[: len(whole) - max(1, len(whole) // HELD)]
