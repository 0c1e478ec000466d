"""Which part of a model each operation of a list of kernels works for: by its name, and products by who stands around.

A norm begins something new. What stands between two norms belongs to a mixer where there is attention in it, else to a
feed where there is a gate or a choice of experts; products alone belong to what comes next, or else to the head.
Read next: lab/profile/watch.py, infer/kernel_plan.py
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

ALWAYS = {
    "embed": "embedding",
    "norm": "norms",
    "norms": "norms",
    "rotate": "positions",
    "rotates": "positions",
    "attend": "attention",
    "attend_join": "attention",
    "top_runs": "sampling",
    "top_chosen": "sampling",
    "add": "rest",
}
MIXER = {"rotate", "rotates", "attend"}
FEED = {"gate", "gates", "route", "share", "gather", "combine"}


@lru_cache(maxsize=256)
def parts_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The parts (lab/profile/watch.py) of a list's operations, in their order."""
    runs: list[list[str]] = [[]]
    for name in names:
        if name in ("norm", "norms"):
            runs.append([])
        runs[-1].append(name)
    parts: list[str] = []
    follows = "head"
    for run in reversed(runs):
        follows = _owner(run) or follows
        parts[:0] = [ALWAYS.get(name, follows) for name in run]
    return tuple(parts)


def _owner(run: Sequence[str]) -> str | None:
    if MIXER & set(run):
        return "projections"
    return "feed" if FEED & set(run) else None
