"""What came of guessing at the tokens of one answer. No tensors.

Leviathan et al. 2022 (arXiv 2211.17192), equation 1: a pass with g guesses, each kept with probability a where those
before it were, yields (1 - a^(g+1)) / (1 - a) tokens.   Read next: infer/speculate.py, infer/acceptance.py
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cutaway.base.errors import BadInput


def expected_tokens(rate: float, guesses: int) -> float:
    """Tokens that a pass yields where each of `guesses` is kept with probability `rate`. Raises BadInput for a rate
    outside 0 to 1 and for fewer than 0 guesses."""
    if not 0.0 <= rate <= 1.0:
        raise BadInput(f"must be from 0 to 1, is {rate}", field="rate")
    if guesses < 0:
        raise BadInput(f"must not be negative, is {guesses}", field="guesses")
    return guesses + 1.0 if rate == 1.0 else (1.0 - rate ** (guesses + 1)) / (1.0 - rate)


@dataclass(frozen=True, kw_only=True)
class Speculated:
    """`guesses`: how many each pass behind the prompt's was given. `judged`: those that were looked at, up to the first
    in a pass that was not kept; `accepted`: those that were."""

    guesses: tuple[int, ...] = ()
    judged: int = 0
    accepted: int = 0

    @classmethod
    def joined(cls, several: Iterable[Speculated]) -> Speculated:
        """What came of guessing at several answers, as if they were one."""
        told = list(several)
        return cls(
            guesses=tuple(count for one in told for count in one.guesses),
            judged=sum(one.judged for one in told),
            accepted=sum(one.accepted for one in told),
        )

    @property
    def passes(self) -> int:
        return len(self.guesses)

    @property
    def proposed(self) -> int:
        return sum(self.guesses)

    @property
    def rate(self) -> float | None:
        """The share a of the guesses looked at that were kept; None where there were none."""
        return self.accepted / self.judged if self.judged else None

    @property
    def per_pass(self) -> float | None:
        """Tokens that a pass gave, one being what it gives without guesses."""
        return 1.0 + self.accepted / self.passes if self.passes else None

    @property
    def expected(self) -> float | None:
        """The same by equation 1, from the rate and the guesses of each pass."""
        rate = self.rate or 0.0
        return sum(expected_tokens(rate, guesses) for guesses in self.guesses) / self.passes if self.passes else None

    @property
    def figures(self) -> dict[str, float | None]:
        """By name, for JSON."""
        return {
            "proposed": self.proposed,
            "accepted": self.accepted,
            "acceptance_rate": self.rate,
            "passes": self.passes,
            "tokens_per_pass": self.per_pass,
            "expected_tokens_per_pass": self.expected,
        }
