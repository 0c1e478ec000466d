"""The inference engine: many requests, one step at a time. step() = plan, run, choose, commit.

Read next: infer/scheduler.py (who takes part), infer/runner.py (the pass), infer/sampler.py (the choice)
    engine = Engine(module)
    first = engine.submit(Request(prompt=(1, 2, 3)))
    while not engine.idle:
        for written in engine.step(): ...
X rows of logits, one for each part that samples · V vocabulary
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Row
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.decoding import Decoding
from cutaway.infer.guessing import Guessing
from cutaway.infer.longlist import Longlist
from cutaway.infer.request import Request, Sequence, StopReason, Stuck, Tops
from cutaway.infer.rules import possible, ruled
from cutaway.infer.runner import Runner
from cutaway.infer.sampler import choose
from cutaway.infer.scheduler import Limits, Part, Plan, Scheduler
from cutaway.infer.shortlist import Shortlist, serves
from cutaway.models.decoder import DecoderModel
from cutaway.ops.forms import FAST, Forms

Sampler = Callable[[Tensor, Decoding, random.Random, Row[int]], int]  # as `choose`


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """One token of an answer. `logprob`: in nats, of the model's own distribution, before rules and temperature; `tops`
    the likeliest of it, as many as were asked for. `reason`: why the answer ends with it; one that failed, or asked for
    its prompt's logprobs alone, ends without a token."""

    sequence: Sequence
    token: int | None
    logprob: float = 0.0
    tops: Tops = ()
    reason: StopReason | None = None


class Engine:
    """Serves a live module: whoever changes its weights between two steps has the next token by the new ones; what was
    read by the old ones is read again. `deterministic`: each answer is, token for token, what it is alone. `kept`:
    what pages hold, such as torch.int8; None for what the model computes in. `guessing`: who guesses at several tokens
    of a sequence at a time."""

    def __init__(
        self,
        module: DecoderModel,
        *,
        limits: Limits | None = None,
        forms: Forms = FAST,
        sampler: Sampler = choose,
        deterministic: bool = False,
        kept: torch.dtype | None = None,
        guessing: Guessing | None = None,
    ):
        self.limits = limits or Limits()
        self.runner = Runner(module, self.limits, forms, deterministic=deterministic, kept=kept)
        self.scheduler = Scheduler(self.runner.cache.tables, self.limits, length=module.spec.length)
        self.vocab = module.spec.vocab
        self.sampler = sampler
        self.guessing = guessing
        self._listed: Shortlist | None = None  # of the last step
        if guessing is not None and self.runner.cache.tables.stateful:
            said = "a model that keeps a state cannot take guesses back in pages: ask it without a proposer"
            raise BadInput(said, field="proposer")

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.scheduler.idle

    def submit(self, request: Request) -> Sequence:
        """Takes a request in; the first of the sequences that answer it (`siblings`: all). Raises BadInput for one that
        could never be answered."""
        self.refuse(request)
        # Where rotations depend on the prompt's length, only prompts of one length have keys in common.
        salt = str(len(request.prompt)).encode() if self.runner.by_prompt else b""
        return self.scheduler.submit(request, salt)

    def refuse(self, request: Request) -> None:
        """Raises BadInput for a request that could never be answered. Any thread may ask."""
        wrong = next((id for id in request.prompt if id >= self.vocab), None)
        if wrong is not None:
            raise BadInput(f"token id {wrong} is outside the vocabulary of {self.vocab}", field="prompt")
        self.scheduler.refuse(request)

    def cancel(self, sequence: Sequence) -> None:
        """Ends all that answers the same request; its pages are free at once."""
        self.scheduler.cancel(sequence)

    def end(self, sequence: Sequence, reason: StopReason = "stop") -> None:
        """Ends one answer, as its text has met a stop; its pages are free at once."""
        self.scheduler.end(sequence, reason)

    def refresh(self) -> None:
        """The weights have changed, in a way that torch does not count: what was read is read again."""
        self.runner.review()
        self.scheduler.forget()

    def step(self) -> list[Written]:
        """One pass over as many tokens as the limits allow; the tokens that were written by it."""
        # Where a text may begin, all weights are looked at before it is read.
        begins = bool(self.scheduler.waiting) and len(self.scheduler.running) < self.limits.sequences
        if not self.runner.weights.same(whole=begins):
            self.refresh()
        if self.guessing is not None:
            writing = self.scheduler.writing
            # Half of what the step has left is for guesses, the rest for prompts.
            self.guessing.propose(writing, (self.limits.budget - len(writing)) // 2, self.sampler)
        plan, start = self.scheduler.plan(), time.perf_counter()
        if not plan.parts:
            return []
        try:
            logits_XV = self.runner.run(plan)
        except BaseException:  # Ctrl-C too
            self.scheduler.abandon(plan)
            raise
        if self.guessing is not None:
            self.guessing.saw(plan.parts, time.perf_counter() - start)
        return self._choose(plan, logits_XV)

    def answer(self, requests: Iterable[Request]) -> list[Sequence]:
        """All of them together, to their ends."""
        sequences = [self.submit(request) for request in requests]
        while not self.idle:
            self.step()
        return sequences

    def _choose(self, plan: Plan, logits_XV: Tensor) -> list[Written]:
        sampling = list(zip((part for part in plan.parts if part.samples), self.scheduler.commit(plan), strict=True))
        if not logits_XV.shape[0]:
            return []
        with torch.inference_mode(), self.runner.rounded():
            rows = self._looked_at(plan, logits_XV)
            self._score(plan, rows, sum(1 + len(part.guesses) for part, _ in sampling))
            row, chosen = 0, []
            for part, sequences in sampling:
                for sequence in sequences:
                    chosen += self._tokens(sequence, part.guesses, row, rows, logits_XV)
                row += 1 + len(part.guesses)
            told = iter(rows.logprobs([(row, token) for _, row, token in chosen if token is not None]))
            tops = [rows.tops(row, one.request.logprobs or 0) for one, row, _ in chosen]
        written = [
            self._write(one, token, 0.0, (), rows.sound[row])
            if token is None
            else self._write(one, token, next(told), likeliest)
            for (one, row, token), likeliest in zip(chosen, tops, strict=True)
        ]
        if self.guessing is not None:
            self._judge([part for part, _ in sampling], written)
        return written

    def _looked_at(self, plan: Plan, logits_XV: Tensor) -> Longlist | Shortlist:
        """All rows at once: by a kernel where kernels made them."""
        decodings: list[Decoding | None] = []
        for part in plan.parts:
            request = part.sequence.request
            own = self.sampler is choose and request.matcher is None and serves(request.decoding)
            if part.samples:
                decodings += [request.decoding if own else None] * (1 + len(part.guesses))
        decodings += [None] * (logits_XV.shape[0] - len(decodings))
        if self.runner.steps is None:
            return Longlist(logits_XV, decodings)
        least = max(1, *(part.sequence.request.logprobs or 1 for part in plan.parts))
        self._listed = Shortlist(logits_XV, decodings, least, before=self._listed)
        return self._listed

    def _tokens(
        self, sequence: Sequence, guesses: Row[int], row: int, rows: Longlist | Shortlist, logits_XV: Tensor
    ) -> list[tuple[Sequence, int, int | None]]:
        """The tokens of one sequence, each with its row, the first of which is `row`: behind each guess that was right
        one more."""
        before, found = len(sequence.tokens), []
        for at, guess in enumerate((*guesses, None), row):
            token = self._token(sequence, at, rows, logits_XV[at]) if rows.sound[at] else None
            found.append((sequence, at, token))
            done = sequence.matcher is not None and sequence.matcher.done
            if token is None or token != guess or token in sequence.request.ends or done:
                break
            if len(sequence.tokens) + 1 >= sequence.limit:
                break
            sequence.tokens.append(token)  # rules look at it; it is taken for good below
        del sequence.tokens[before:]
        return found

    def _judge(self, parts: Row[Part], written: Row[Written]) -> None:
        """What was written is held against the guesses at it."""
        assert self.guessing is not None
        tokens: dict[Sequence, list[int]] = {}
        for one in written:
            if one.token is not None:
                tokens.setdefault(one.sequence, []).append(one.token)
                self.guessing.wrote(one.sequence, one.token)
        for part in parts:
            pairs = zip(tokens.get(part.sequence, ()), part.guesses, strict=False)
            kept = sum(token == guess for token, guess in pairs)
            self.guessing.judged(part, kept)
            if part.guesses:
                self.scheduler.keep(part, kept)

    def _score(self, plan: Plan, rows: Longlist | Shortlist, row: int) -> None:
        """The logprobs of the prompts' tokens behind those that this pass has scored, whose rows begin with `row`."""
        pairs = [
            (row + at, part, place)
            for at, (part, place) in enumerate((part, i) for part in plan.parts for i in part.scores)
        ]
        tokens = [part.sequence.request.prompt[place + 1] for _, part, place in pairs]
        logprobs = rows.logprobs([(at, token) for (at, _, _), token in zip(pairs, tokens, strict=True)])
        for (at, part, _), token, logprob in zip(pairs, tokens, logprobs, strict=True):
            part.sequence.scores.append((token, logprob, rows.tops(at, part.sequence.request.logprobs or 0)))

    def _token(self, sequence: Sequence, row: int, rows: Longlist | Shortlist, logits_V: Tensor) -> int | None:
        """The next one; None where there can be none."""
        request, decoding = sequence.request, sequence.request.decoding
        if len(sequence.tokens) >= sequence.limit:
            return None
        if (token := rows.token(row, sequence.draw)) is not None:
            return token
        logits_V = ruled(logits_V, decoding, sequence.tokens, len(request.prompt), request.ends)
        try:
            if sequence.matcher is None:
                return self.sampler(possible(logits_V, decoding), decoding, sequence.draw, sequence.tokens)
            token = self.sampler(sequence.matcher.mask(logits_V), decoding, sequence.draw, sequence.tokens)
            sequence.matcher.take(token)
        except Stuck:
            return None
        return token

    def _write(self, sequence: Sequence, token: int | None, logprob: float, tops: Tops, sound: bool = True) -> Written:
        if token is None:
            stuck: StopReason = "stuck" if sound else "failed"
            reason: StopReason = "length" if len(sequence.tokens) >= sequence.limit else stuck
            self.scheduler.end(sequence, reason)
            return Written(sequence=sequence, token=None, reason=reason)
        self.scheduler.take(sequence, token)
        if sequence.reason != "stop" and sequence.matcher is not None and sequence.matcher.done:
            self.scheduler.end(sequence, "stop")
        return Written(sequence=sequence, token=token, logprob=logprob, tops=tops, reason=sequence.reason)

    def check(self) -> None:
        """Asserts the invariants of all that it holds, between two steps."""
        self.scheduler.check()
