"""Who guesses at the next tokens of the sequences that an engine runs, and how many guesses a step is worth.

A step is shared: with S sequences in it, T(n) its seconds over n tokens, a sequence's own token costs T(S) / S, and g
guesses T(S + g) - T(S) more. By these two each sequence decides as it does alone (infer/thrift.py). All proposals are
certain (infer/acceptance.py), so that each answer is, token for token, the one without.
Departure: a draft keeps a contiguous cache for each sequence and reads each alone; only the proof is shared.
No tensors.   Read next: infer/engine.py, infer/proposers.py
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Collection, Iterable

from cutaway.infer.acceptance import Choosing, Proposal, Sampler
from cutaway.infer.proposers import Guesser, Proposer, Speaker
from cutaway.infer.request import Sequence
from cutaway.infer.sampler import choose
from cutaway.infer.scheduler import Part
from cutaway.infer.speculated import Speculated
from cutaway.infer.thrift import Costs, Thrift


class Shared:
    """What one sequence pays for tokens in a step of `others` and itself, as `infer.thrift.Costs`."""

    def __init__(self, costs: Costs):
        self.costs, self.running = costs, 1

    def saw(self, tokens: int, seconds: float) -> None:
        """Steps are measured as a whole."""

    def known(self, tokens: int) -> bool:
        return self.costs.any

    def seconds(self, tokens: int) -> float:
        whole = self.costs.seconds(self.running)
        return whole / self.running + max(0.0, self.costs.seconds(self.running + tokens - 1) - whole)


class Guessing:
    """`language`: the model that is served."""

    def __init__(self, proposer: Proposer, language: Speaker):
        self.proposer, self.language = proposer, language
        proposer.begin(language)  # refused now rather than at the first request
        self.costs = Costs()
        self._each: weakref.WeakKeyDictionary[Sequence, tuple[Guesser, Thrift, Shared]] = weakref.WeakKeyDictionary()
        self._asked: dict[Sequence, tuple[Proposal, float]] = {}
        self._passes: weakref.WeakKeyDictionary[Sequence, list[tuple[int, int]]] = weakref.WeakKeyDictionary()

    def propose(self, sequences: Collection[Sequence], room: int, sampler: Sampler = choose) -> None:
        """Gives each of them guesses, at most `room` in all: no sequence that runs loses its token to another's."""
        self._asked.clear()
        for sequence in sequences:
            # What a part holds is never longer than the sequence may become, less its last token.
            most = min(room // len(sequences), sequence.limit - len(sequence.tokens) - 1)
            guesser, thrift, shared = self._of(sequence)
            shared.running = len(sequences)
            start, count = time.perf_counter(), min(most, thrift.ask())
            sequence.guesses = ()
            if count < 1:
                continue
            proposal = thrift.use(guesser.propose(sequence.tokens, count, _certain(sequence, sampler)))
            if sequence.matcher is not None:
                proposal = proposal.first(sequence.matcher.fits(proposal.tokens))
            sequence.guesses = proposal.tokens
            self._asked[sequence] = proposal, time.perf_counter() - start

    def saw(self, parts: Iterable[Part], seconds: float) -> None:
        """A step took so long; what it costs is told by those in which nobody's prompt was read."""
        counts = [(part.count, len(part.guesses)) for part in parts]
        if all(count == guesses + 1 for count, guesses in counts):
            self.costs.saw(sum(count for count, _ in counts), seconds)

    def judged(self, part: Part, kept: int) -> None:
        """So many of a part's guesses were right."""
        if part.start >= len(part.sequence.request.prompt):
            self._passes.setdefault(part.sequence, []).append((len(part.guesses), kept))
        proposal, guessing = self._asked.get(part.sequence, (Proposal(), 0.0))
        self._of(part.sequence)[1].saw(
            proposal.first(len(part.guesses)), kept, tokens=part.count, seconds=0.0, guessing=guessing
        )

    def told(self, sequence: Sequence) -> Speculated:
        """What came of the guesses at an answer, so far."""
        passes = self._passes.get(sequence, [])
        return Speculated(
            guesses=tuple(guesses for guesses, _ in passes),
            judged=sum(min(kept + 1, guesses) for guesses, kept in passes),
            accepted=sum(kept for _, kept in passes),
        )

    def wrote(self, sequence: Sequence, token: int) -> None:
        """A token of a sequence."""
        self._of(sequence)[1].wrote(token)

    def _of(self, sequence: Sequence) -> tuple[Guesser, Thrift, Shared]:
        if sequence not in self._each:
            guesser, shared = self.proposer.begin(self.language), Shared(self.costs)
            thrift = Thrift(self.proposer.count, cheap=guesser.cheap, adaptive=self.proposer.adaptive, costs=shared)
            self._each[sequence] = guesser, thrift, shared
        return self._each[sequence]


def _certain(sequence: Sequence, sampler: Sampler) -> Choosing:
    request = sequence.request
    return Choosing(
        decoding=request.decoding,
        draw=sequence.draw,
        prompt=len(request.prompt),
        ends=request.ends,
        sampler=sampler,
        sure=True,
    )
