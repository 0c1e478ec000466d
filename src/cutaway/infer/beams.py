"""Beam search over one source, without tensors: which beginnings are kept, which ends are the best, and when to stop.

Graves 2012 (arXiv 1211.3711), section 3; length: Wu et al. 2016 (arXiv 1609.08144), section 7, in its plain form,
  score(y) = log p(y) / |y|^penalty,   |y| the tokens of y, its end included
Of all continuations of the `width` beginnings the best are looked at in order. Those that end are results if they are
among the first `width`; the best that do not end go on. The rules of stopping are those of transformers (`early`):
  False    when no beginning, ended here, would beat the worst of `width` results (the usual one; not exact)
  "never"  the same, but measured at the greatest length where longer is better: slower, and nothing better is missed
  True     as soon as there are `width` results
Groups (diverse beam search, Vijayakumar et al. 2016, arXiv 1610.02424, algorithm 1): several searches for one source,
one after the other at each step; a continuation is ranked as if its log p were less by `diversity` for every beginning
of the searches before it that has just taken the same token. What it is worth (`total`, `score`) stays its log p.
Departure: with a width of 1 this is not greedy search: an end that is found is kept while a better one is looked for.
Read next: infer/seq2seq.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Early = bool | Literal["never"]


@dataclass(frozen=True, kw_only=True)
class Beam:
    """A beginning or a whole target. `total`: the sum of its logprobs, in nats. `row`: where its parent stood."""

    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    total: float = 0.0
    row: int = 0

    def then(self, token: int, logprob: float, total: float, row: int) -> Beam:
        """This beginning and one token more."""
        return Beam(tokens=(*self.tokens, token), logprobs=(*self.logprobs, logprob), total=total, row=row)

    def score(self, penalty: float, length: int | None = None) -> float:
        """The mean logprob if `penalty` is 1, the sum if it is 0; `length`: as if it had so many tokens."""
        return self.total / float(length or len(self.tokens)) ** penalty


class Beams:
    """The search for one source's target. `running` are the beginnings to be continued, `found` the results, best
    first. `most`: the greatest length of a target. `after`: the groups before this one, from which it is to differ."""

    def __init__(
        self,
        *,
        width: int,
        ends: frozenset[int],
        most: int,
        penalty: float,
        early: Early,
        after: Sequence[Beams] = (),
        diversity: float = 0.0,
    ):
        self.width, self.ends, self.most, self.penalty, self.early = width, ends, most, penalty, early
        self.after, self.diversity = tuple(after), diversity
        self.running: list[Beam] = [Beam()]
        self.found: list[tuple[float, Beam]] = []
        self.took: list[tuple[int, ...]] = []  # the best texts of the last step, ends left out
        self.done = most < 1

    @property
    def looked_at(self) -> int:
        """How many of the best continuations `extend` has to be given: one beginning may end in each way."""
        return max(2, 1 + len(self.ends)) * self.width

    @property
    def best(self) -> Beam:
        """The best result; before there is one, the best beginning."""
        return self.found[0][1] if self.found else self.running[0]

    def taken(self) -> Counter[int]:
        """How often the groups before this one, which have made their step, took each token in it; ends do not count,
        nor does a group that has finished."""
        length = len(self.running[0].tokens) + 1
        steps = [tokens for group in self.after for tokens in group.took]
        return Counter(tokens[-1] for tokens in steps if len(tokens) == length)

    def extend(self, continuations: Iterable[Beam]) -> None:
        """Takes one token more: the best continuations of all `running`, best first, `looked_at` of them if there are
        so many."""
        continuations = list(continuations)
        self.took = [one.tokens for one in continuations if one.tokens[-1] not in self.ends][: self.width]
        going: list[Beam] = []
        full = len(self.found) == self.width and self.early is True
        for rank, beam in enumerate(continuations):
            if beam.tokens[-1] not in self.ends and len(beam.tokens) < self.most:
                going.append(beam)
            elif rank < self.width and not full:
                self.found.append((beam.score(self.penalty), beam))
        self.found = sorted(self.found, key=lambda scored: -scored[0])[: self.width]
        self.running = going[: self.width]
        self.done = not self.running or not self._may_improve()
        self.check()

    def _may_improve(self) -> bool:
        if len(self.found) < self.width:
            return True
        if self.early is True:
            return False
        first = self.running[0]
        hopeful = self.most if self.early == "never" and self.penalty > 0 else len(first.tokens)
        return first.score(self.penalty, hopeful) > self.found[-1][0]

    def check(self) -> None:
        """Asserts the invariants."""
        assert len(self.running) <= self.width and len(self.found) <= self.width
        assert len({len(beam.tokens) for beam in self.running}) <= 1, "beginnings of different lengths"
        assert self.done or self.running, "nothing to continue"
        scores = [score for score, _ in self.found]
        assert scores == sorted(scores, reverse=True)
