"""The nearest known name to one that nobody knows, so that an error can say "did you mean".

Read next: base/values.py
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The member of `known` most like `name`, whatever its case; None if nothing is much like it."""
    by_folded = {one.casefold(): one for one in known}
    found = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message: `; did you mean "rope"?`, or the list if it is short, or nothing."""
    known = list(known)
    found = nearest(name, known)
    if found is not None:
        return f'; did you mean "{found}"?'
    return f" (known: {', '.join(known)})" if 0 < len(known) <= 12 else ""
