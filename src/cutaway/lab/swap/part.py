"""A part that a reader may replace: how it is called, what it is tried on, and which properties are probed.

Read next: lab/swap/table.py, lab/swap/judge.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cutaway.lab.swap.verdict import Case

Candidate = Callable[..., Any]
Find = Callable[[Candidate], str | None]  # what is wrong with a candidate, in words; None if the property holds


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One property. `find` tries it with inputs of its own, and knows no wrong version by name."""

    property: str
    find: Find


@dataclass(frozen=True, kw_only=True)
class Part:
    """`ours`: what the stub is made from and what the reader's is timed against. `positional` and `named`: how parts
    call it; `optional`: arguments that a reader's version may do without, each with what is then not possible.

    `trials` gives the verdict: the smallest first, each a function that answers with the case that went wrong, or None.
    `place`: where it runs in a model: a field of `Forms`, "choose", a class of modules, or None.
    `remarks`: what is said of one that passes all the same. `bench`: () -> arguments of a call that takes a while.
    """

    name: str
    about: str
    ours: Callable[..., Any]
    positional: int
    named: tuple[str, ...] = ()
    optional: dict[str, str]
    trials: Callable[[Candidate], Sequence[Callable[[], Case | None]]]
    probes: tuple[Probe, ...]
    place: str | None
    remarks: Callable[[Candidate], Sequence[str]] | None = None
    bench: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] | None = None
