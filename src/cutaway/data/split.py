"""Which documents are kept apart to judge the model by.

A document's own text decides: hash(text) / 2^64 < fraction. It stays on its side when others come or go, in whatever
order they are read, and two copies of one text are never on both sides.   Read next: data/preparation.py
"""

from __future__ import annotations

from hashlib import blake2b

from cutaway.base.errors import BadInput


def held_out(text: str, fraction: float, *, seed: int = 0) -> bool:
    """Whether this document belongs to the validation part, to which about `fraction` of all documents belong."""
    mark = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(mark, "little") < fraction * 2**64


def cut(text: str, fraction: float) -> tuple[str, str]:
    """One long text as nanoGPT splits it: (training, the last `fraction` of its characters)."""
    if not 0 < fraction < 1:
        raise BadInput(f"must be between 0 and 1, is {fraction}", field="fraction")
    place = int(len(text) * (1 - fraction))
    return text[:place], text[place:]
