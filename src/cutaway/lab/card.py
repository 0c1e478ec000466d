"""A reproduction card: what a paper claims, where, what is computed here to see it, and how close it has to come.

A card computes from the house's own parts, never from the claim. What needs data that is not here says so: skipped.
Read next: lab/cards/table.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from cutaway.base.errors import BadInput

Verdict = Literal["holds", "differs", "skipped", "failed"]


class Expected(Protocol):
    """What the source says of one number."""

    def holds(self, ours: float) -> bool: ...
    def written(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Near:
    """The number itself. `tolerance`: how far ours may be off, as a share of it; 0 is equality."""

    value: float
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise BadInput(f"must not be negative, is {self.tolerance}", field="Near.tolerance")

    def holds(self, ours: float) -> bool:
        return abs(ours - self.value) <= self.tolerance * abs(self.value)

    def written(self) -> str:
        return figure(self.value)


@dataclass(frozen=True, kw_only=True)
class AtLeast:
    """A lower bound."""

    value: float

    def holds(self, ours: float) -> bool:
        return ours >= self.value

    def written(self) -> str:
        return f">= {figure(self.value)}"


@dataclass(frozen=True, kw_only=True)
class AtMost:
    """An upper bound."""

    value: float

    def holds(self, ours: float) -> bool:
        return ours <= self.value

    def written(self) -> str:
        return f"<= {figure(self.value)}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number: `what` it is, what the source says of it, what came out here. NaN holds for nothing."""

    what: str
    expected: Expected
    ours: float

    @property
    def holds(self) -> bool:
        return self.expected.holds(self.ours)


class NoData(Exception):
    """What a card's computation raises where the data it reads is not on this machine; says which."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """`claim`: one sentence. `source`: paper, section. `computed`: what is done here. `tolerance`: why so close and no
    closer. `seconds`: about how long it takes on two cores. `compute` does it."""

    name: str
    claim: str
    source: str
    computed: str
    tolerance: str
    seconds: int
    compute: Callable[[], tuple[Finding, ...]]

    def reproduce(self) -> Outcome:
        """Computes the card's numbers. Raises only what is wrong with the program, never for absent data."""
        begun = time.perf_counter()
        try:
            findings = self.compute()
        except NoData as missing:
            return Outcome(card=self, missing=str(missing))
        if not findings:
            raise BadInput("a card that finds nothing shows nothing", field=self.name)
        return Outcome(card=self, findings=findings, seconds=time.perf_counter() - begun)

    def attempt(self) -> Outcome:
        """The same where other cards are to follow: what went wrong becomes part of the outcome."""
        try:
            return self.reproduce()
        except Exception as error:  # whatever it is, it says nothing of the other cards
            told = " ".join(str(error).split())
            return Outcome(card=self, failure=f"{type(error).__name__}: {told}" if told else type(error).__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came out of a card. `missing`: the data that it was skipped for; `failure`: what went wrong in computing it,
    which says nothing of the claim; `seconds`: how long it took."""

    card: Card
    findings: tuple[Finding, ...] = ()
    missing: str | None = None
    failure: str | None = None
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        if self.failure is not None:
            return "failed"
        if self.missing is not None:
            return "skipped"
        return "holds" if all(finding.holds for finding in self.findings) else "differs"


def figure(value: float) -> str:
    """A number as a person reads it: counts in full, others to four digits."""
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
