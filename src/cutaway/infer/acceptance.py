"""Which of the proposed tokens are kept, so that the answer is drawn from the target's own distribution all the same.

Leviathan et al. 2022 (arXiv 2211.17192), algorithm 1; Chen et al. 2023 (arXiv 2302.01318), algorithm 2. With p what the
target would draw from (after all of `Decoding`) and q what the proposer drew x from:
  keep x with probability min(1, p(x) / q(x));   at the first that is not kept draw from max(0, p - q), scaled to 1
  where all g are kept, one more is drawn from p
A proposal without q is certain of itself: then x is kept where the target, drawing as it always does, draws x. That is
the same rule with q(x) = 1; it takes the same random numbers as without proposals, so a seed gives the same answer.
X rows, behind the last token and behind each proposed one · V vocabulary · C candidates left
Read next: infer/speculate.py, infer/sampler.py
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cutaway.infer.constrain import Matcher
from cutaway.infer.decoding import Decoding
from cutaway.infer.rules import possible, ruled
from cutaway.infer.sampler import candidates, choose, penalise, trimmed
from cutaway.infer.shortlist import Shortlist

Sampler = Callable[[Tensor, Decoding, random.Random, Sequence[int]], int]  # as `choose`


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposal:
    """Tokens that may come next. `chances_XV`: the distribution that each was drawn from, None where the proposer is
    certain. `kind`: how they were found; proposals of one kind are trusted alike."""

    tokens: tuple[int, ...] = ()
    chances_XV: Tensor | None = None
    kind: int = 0

    def first(self, count: int) -> Proposal:
        """The same, cut to so many tokens."""
        if count >= len(self.tokens):
            return self
        chances_XV = None if self.chances_XV is None else self.chances_XV[:count]
        return Proposal(tokens=self.tokens[:count], chances_XV=chances_XV, kind=self.kind)


@dataclass(frozen=True, kw_only=True, eq=False)
class Choosing:
    """How the tokens of one answer are chosen: rules, cuts and the draw, behind a prompt of so many tokens. `sure`:
    proposals are to be certain of themselves in any case. `matcher`: what the answer is held to, told of each token."""

    decoding: Decoding
    draw: random.Random
    prompt: int
    ends: frozenset[int] = frozenset()
    sampler: Sampler = choose
    sure: bool = False
    matcher: Matcher | None = None

    @property
    def free(self) -> Choosing:
        """The same for somebody who guesses: what an answer is held to is only known behind the tokens it has."""
        return self if self.matcher is None else replace(self, matcher=None)

    def fitting(self, proposal: Proposal) -> Proposal:
        """A proposal without what could not be kept anyway. One that was drawn stays: its answer would else not be
        distributed as the target's, for what is drawn behind a refused token is not what is drawn without one."""
        if self.matcher is None or proposal.chances_XV is not None:
            return proposal
        return proposal.first(self.matcher.fits(proposal.tokens))

    @property
    def usual(self) -> bool:
        """Whether the decoding alone says which token comes, chosen as ours are."""
        return self.sampler is choose and self.matcher is None

    @property
    def certain(self) -> bool:
        """Whether proposals have to be certain of themselves: where nothing is drawn, where a seed is to give the
        answer that it always gives, and where a sampler of the reader's own says nothing of its distribution."""
        return self.sure or self.decoding.greedy or self.decoding.seed is not None or self.sampler is not choose

    def token(self, logits_V: Tensor, seen: Sequence[int]) -> int:
        """The next token behind `seen`."""
        return self.sampler(self._ruled(logits_V, seen), self.decoding, self.draw, seen)

    def likeliest(self, logits_V: Tensor, seen: Sequence[int]) -> int:
        """The token that is drawn most often."""
        return int(self._penalised(logits_V, seen).argmax())

    def distribution(self, logits_V: Tensor, seen: Sequence[int]) -> Tensor:
        """What `token` draws from, (V,)."""
        logits_V = self._penalised(logits_V, seen)
        p_V = torch.zeros_like(logits_V, dtype=torch.float32)
        if self.decoding.greedy:
            p_V[logits_V.argmax()] = 1.0
            return p_V
        probabilities_C, ids_C = trimmed(*candidates(logits_V, self.decoding), self.decoding)
        return p_V.index_copy(0, ids_C, probabilities_C)

    def _penalised(self, logits_V: Tensor, seen: Sequence[int]) -> Tensor:
        logits_V, penalty = self._ruled(logits_V, seen), self.decoding.repetition_penalty
        return logits_V if penalty == 1.0 else penalise(logits_V, seen, penalty)

    def _ruled(self, logits_V: Tensor, seen: Sequence[int]) -> Tensor:
        logits_V = ruled(logits_V, self.decoding, seen, self.prompt, self.ends)
        return possible(logits_V, self.decoding) if self.matcher is None else self.matcher.mask(logits_V)


def accepted(
    logits_XV: Tensor,
    proposal: Proposal,
    seen: Sequence[int],
    choosing: Choosing,
    shortlist: Shortlist | None = None,
) -> Iterator[int]:
    """The tokens behind `seen`, at least one: those of the proposal that are kept, then one that the target draws.

    `seen` must grow by each token before the next is asked for. `logits_XV`: the target's, one row more than proposed.
    `shortlist`: the likeliest of each, if there is one, for a choice that is held to nothing.
    """
    for row, proposed in enumerate((*proposal.tokens, None)):
        if proposed is None or proposal.chances_XV is None:
            token = None if shortlist is None else shortlist.token(row, choosing.draw)
            if token is None:
                token = choosing.token(logits_XV[row], seen)
        else:
            p_V, q_V = choosing.distribution(logits_XV[row], seen), proposal.chances_XV[row]
            token = judged(proposed, p_V, q_V, choosing.draw)
        if choosing.matcher is not None:
            choosing.matcher.take(token)
        yield token
        if token != proposed:
            return


def judged(token: int, p_V: Tensor, q_V: Tensor, draw: random.Random) -> int:
    """`token`, drawn from q, or another in its place: what comes back is distributed as p. Never the same when
    refused: there p < q, and nothing is left of it."""
    if draw.random() * float(q_V[token]) < float(p_V[token]):
        return token
    left_V = (p_V - q_V).clamp(min=0.0)
    # Where p and q are equal but for rounding, nothing may be left: then p itself will do.
    return drawn(left_V if bool(left_V.any()) else p_V, draw)


def drawn(weights_V: Tensor, draw: random.Random) -> int:
    """A token drawn in proportion to weights (V,), by one random number."""
    cumulative_V = weights_V.double().cumsum(0)
    point = draw.random() * cumulative_V[-1]
    index = int(torch.searchsorted(cumulative_V, point.reshape(1), right=True))
    # Rounding may put the point at the very end: the last that has any weight is meant.
    return min(index, int(weights_V.nonzero()[-1]))
