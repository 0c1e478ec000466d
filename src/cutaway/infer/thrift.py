"""How many tokens to guess for: as many as pay, by what passes were seen to cost and guesses to be worth.

With a the share of guesses kept so far, T(n) the seconds of a pass over n tokens and P of a guess, g guesses pay where
    ((1 - a^(g+1)) / (1 - a)) / (T(g+1) + g P)  >  1 / T(1)            (arXiv 2211.17192, theorem 3.8, with T measured)
and the g for which the left side is largest is taken. Guesses that cost nothing are watched where they do not pay: what
would have been kept is seen as the text goes on. Others are tried again after a rest, which doubles each time in vain.
Read next: infer/speculate.py
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Protocol

from cutaway.infer.acceptance import Proposal
from cutaway.infer.speculated import expected_tokens

GAIN = 1.05  # more than that has to be won: what was measured is not certain
FADE = 0.9  # of what was seen, with each guess seen after it
FIRST, WEIGHT = 0.5, 2.0  # share of guesses kept before any was seen, and how many guesses that counts for
SLOPE = 0.15  # what one token more adds to a pass, as a share of T(1), before it was measured
AGAIN = 64  # passes after which one token alone is measured again: the text has grown
REST, LONGEST = 8, 256  # tokens before guesses that did not pay are tried again


class Share:
    """The share of guesses that are kept, of one kind; older ones fade."""

    def __init__(self) -> None:
        self.kept, self.seen = FIRST * WEIGHT, WEIGHT

    @property
    def value(self) -> float:
        return self.kept / self.seen

    def saw(self, kept: int, missed: bool) -> None:
        """So many in a row were kept, and then one was not, or all were used."""
        for right in [1.0] * kept + [0.0] * missed:
            self.kept, self.seen = FADE * self.kept + right, FADE * self.seen + 1.0


class Paid(Protocol):
    """What tokens cost, in seconds, 1 being what is paid without guesses."""

    def saw(self, tokens: int, seconds: float) -> None: ...
    def known(self, tokens: int) -> bool: ...
    def seconds(self, tokens: int) -> float: ...


class Costs:
    """Seconds of a pass by its tokens: the least of the last few, as other programs only make it longer."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=8))

    @property
    def any(self) -> bool:
        """Whether any pass was seen."""
        return bool(self._seen)

    def saw(self, tokens: int, seconds: float) -> None:
        self._seen[tokens].append(seconds)

    def known(self, tokens: int) -> bool:
        return tokens in self._seen

    def seconds(self, tokens: int) -> float:
        """Of a pass over so many; between and beyond those that were seen, along a line. Some must have been seen."""
        if tokens in self._seen:
            return min(self._seen[tokens])
        below = [seen for seen in sorted(self._seen) if seen < tokens]
        above = min((seen for seen in self._seen if seen > tokens), default=None)
        if not below:
            return min(self._seen[min(self._seen)])
        low = min(self._seen[below[-1]])
        if above is not None:
            slope = (min(self._seen[above]) - low) / (above - below[-1])
        else:
            slope = SLOPE * low / below[-1]
            if len(below) > 1:
                slope = max(slope / 4, (low - min(self._seen[below[0]])) / (below[-1] - below[0]))
        return low + slope * (tokens - below[-1])


class Thrift:
    """Decides for one answer. `most`: guesses of a pass; `cheap`: guesses cost nothing; not `adaptive`: always most."""

    def __init__(self, most: int, *, cheap: bool, adaptive: bool = True, costs: Paid | None = None):
        self.most, self.cheap, self.adaptive = most, cheap, adaptive
        self.costs, self.guess = costs or Costs(), 0.0  # seconds of one guess
        self.shares: dict[int, Share] = defaultdict(Share)
        self._rest = self._resting = 0
        self._passes = 0
        self._watched: list[int] = []  # guesses that are not used, only held against what comes
        self._watched_kind = self._right = 0

    def ask(self) -> int:
        """How many guesses to ask for now."""
        if not self.adaptive:
            return self.most
        if not self.costs.known(1) or self._passes >= AGAIN:
            return 0
        if self.cheap:
            return 0 if self._watched else self.most
        if self._resting:
            return 0
        if self._rest and not self._best(0, self.most):  # after a rest: what was seen before it is old
            self.shares[0] = Share()
            return max(1, self._best(0, self.most))
        return self._best(0, self.most) or 1

    def use(self, proposal: Proposal) -> Proposal:
        """What of a proposal is worth a pass; a cheap one that is not worth it is watched."""
        if not self.adaptive or not self.cheap or not proposal.tokens:
            return proposal
        count = self._best(proposal.kind, len(proposal.tokens))
        if not count:
            self._watched, self._watched_kind, self._right = list(proposal.tokens), proposal.kind, 0
        return proposal.first(count)

    def saw(self, proposal: Proposal, kept: int, *, tokens: int, seconds: float, guessing: float) -> None:
        """A pass over so many tokens took so long, the guesses before it so long; so many of them were kept."""
        guesses = len(proposal.tokens)
        self.costs.saw(tokens, seconds)
        self._passes = 0 if tokens == 1 else self._passes + 1
        if not guesses:
            self._resting = max(0, self._resting - 1)
            return
        self.guess = guessing / guesses if not self.guess else min(guessing / guesses, 1.1 * self.guess)
        self.shares[proposal.kind].saw(kept, kept < guesses)
        if not self.cheap and self.adaptive:
            pays = self._best(proposal.kind, self.most) > 0
            self._rest = 0 if pays else min(LONGEST, max(REST, 2 * self._rest))
            self._resting = self._rest

    def wrote(self, token: int) -> None:
        """A token came; holds what is watched against it."""
        if not self._watched:
            return
        right = self._watched.pop(0) == token
        self._right += right
        if not right or not self._watched:
            self.shares[self._watched_kind].saw(self._right, not right)
            self._watched = []

    def _best(self, kind: int, most: int) -> int:
        """The number of guesses, at most so many, that gives most tokens a second; 0 where none pays."""
        alone, share = self.costs.seconds(1), self.shares[kind].value
        best, rate = 0, GAIN / alone
        for count in range(1, most + 1):
            found = expected_tokens(share, count) / (self.costs.seconds(count + 1) + count * self.guess)
            if found > rate:
                best, rate = count, found
        return best
