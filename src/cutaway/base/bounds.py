"""The bounds of what values are told: counts, rates, shares.

Read next: base/errors.py
"""

from __future__ import annotations

import math

from cutaway.base.errors import BadInput


def at_least(value: object, least: float, *names: str) -> None:
    """Raises BadInput unless the fields of `value` are finite and at least `least`, or None."""
    for name in names:
        given = getattr(value, name)
        if given is not None and not (math.isfinite(given) and given >= least):
            raise BadInput(f"must be at least {least:g}, is {given}", field=f"{type(value).__name__}.{name}")


def fractions(value: object, *names: str) -> None:
    """Raises BadInput unless the fields of `value`, a number or several, are in [0, 1)."""
    for name in names:
        given = getattr(value, name)
        for one in given if isinstance(given, tuple) else (given,):
            if not 0.0 <= one < 1.0:
                raise BadInput(f"must be in [0, 1), is {given}", field=f"{type(value).__name__}.{name}")
