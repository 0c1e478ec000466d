"""Writes one answer, token after token: several of them in a pass where somebody's guesses at them are right.

Leviathan et al. 2022 (arXiv 2211.17192), section 2. The tokens of one round:
  a proposer guesses what may follow      infer/proposers.py
  the model reads the last token and all guesses in one pass, which takes little longer than one token's
  those are kept that it would have written itself (infer/acceptance.py); the cache goes back to them
Where nobody guesses, a round is one token, and this is how every answer is written.
X rows, behind the last token and behind each guess · V vocabulary
Read next: infer/continuation.py, infer/thrift.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cutaway.infer.acceptance import Choosing, Proposal, accepted
from cutaway.infer.continuation import Continuation
from cutaway.infer.proposers import Guesser, Proposer, Speaker
from cutaway.infer.shortlist import Shortlist
from cutaway.infer.speculated import Speculated
from cutaway.infer.thrift import Thrift

NOTHING = Proposal()


@dataclass(kw_only=True)
class Speculation:
    """The guesses of one answer, and what became of them."""

    guesser: Guesser
    thrift: Thrift
    proposal: Proposal = NOTHING  # what the last pass was given
    guesses: list[int] = field(default_factory=list)
    judged: int = 0
    accepted: int = 0
    guessing: float = 0.0  # seconds that the proposal took

    @classmethod
    def of(cls, proposer: Proposer, language: Speaker) -> Speculation:
        guesser = proposer.begin(language)
        return cls(guesser=guesser, thrift=Thrift(proposer.count, cheap=guesser.cheap, adaptive=proposer.adaptive))

    @property
    def told(self) -> Speculated:
        return Speculated(guesses=tuple(self.guesses), judged=self.judged, accepted=self.accepted)

    def guess(self, seen: Sequence[int], most: int, choosing: Choosing) -> Proposal:
        """What to try in the next pass: at most so many tokens, often none."""
        start, count = time.perf_counter(), min(most, self.thrift.ask())
        proposed = self.thrift.use(self.guesser.propose(seen, count, choosing.free)) if count > 0 else NOTHING
        self.proposal = choosing.fitting(proposed)
        self.guessing = time.perf_counter() - start
        self.guesses.append(len(self.proposal.tokens))
        return self.proposal

    def wrote(self, row: int, token: int) -> None:
        """The token behind so many others of the last pass."""
        if row < len(self.proposal.tokens):
            self.judged += 1
            self.accepted += token == self.proposal.tokens[row]
        self.thrift.wrote(token)

    def read(self, tokens: int, seconds: float, kept: int) -> None:
        """The last pass took in so many tokens in that time; so many guesses were kept."""
        self.thrift.saw(self.proposal, kept, tokens=tokens, seconds=seconds, guessing=self.guessing)


def written(
    held: Continuation,
    ids: Sequence[int],
    choosing: Choosing,
    *,
    limit: int,
    sound: Callable[[Tensor], None],
    speculation: Speculation | None = None,
) -> Iterator[tuple[int, float]]:
    """At most `limit` tokens behind the prompt `ids`, each with its logprob under the model itself, in nats.

    The prompt is read at once, a token only when the one behind it is asked for. `sound` is told all logits first.
    """
    seen, proposal, last = list(ids), NOTHING, len(ids) + limit
    logits_XV = held.feed(held.rewind(ids, room=last))[None]
    tokens, seconds = 0, 0.0  # of the last pass behind the prompt's
    while True:
        shortlist = held.shortlist(logits_XV, choosing.decoding) if choosing.usual else None
        if shortlist is None or not all(shortlist.sound):
            sound(logits_XV)
        began = len(seen)
        for token, logprob in _kept(logits_XV, proposal, seen, choosing, shortlist):
            seen.append(token)
            if speculation:
                speculation.wrote(len(seen) - began - 1, token)
            yield token, logprob
        kept = len(seen) - began - 1
        again = held.back(len(proposal.tokens) - kept)
        if speculation and tokens:
            speculation.read(tokens, seconds, kept)
        if len(seen) >= last:
            return
        if speculation:  # one of the tokens that are still wanted comes with the pass itself
            proposal = speculation.guess(seen, last - len(seen) - 1, choosing)
        start, tokens = time.perf_counter(), len(again) + 1 + len(proposal.tokens)
        logits_XV = held.attempt([*again, seen[-1]], proposal.tokens)
        seconds = time.perf_counter() - start


def _kept(
    logits_XV: Tensor, proposal: Proposal, seen: Sequence[int], choosing: Choosing, shortlist: Shortlist | None
) -> Iterator[tuple[int, float]]:
    """Each token that is kept, with its logprob. Whoever asks is never left in inference mode."""
    tokens = accepted(logits_XV, proposal, seen, choosing, shortlist)
    for row, logits_V in enumerate(logits_XV):
        with torch.inference_mode():
            token = next(tokens, None)
            if token is None:
                return
            if shortlist is None:
                logprob = float(logits_V[token].float() - logits_V.float().logsumexp(0))
            else:
                (logprob,) = shortlist.logprobs([(row, token)])
        yield token, logprob
