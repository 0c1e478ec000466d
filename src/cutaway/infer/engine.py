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
from cutaway.infer.constrain import Stuck
from cutaway.infer.decoding import Decoding
from cutaway.infer.guessing import Guessing
from cutaway.infer.request import Request, Sequence, StopReason, Tops
from cutaway.infer.rules import ruled
from cutaway.infer.runner import Runner
from cutaway.infer.sampler import choose
from cutaway.infer.scheduler import Limits, Part, Plan, Scheduler
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
        self.scheduler.forget()

    def step(self) -> list[Written]:
        """One pass over as many tokens as the limits allow; the tokens that were written by it."""
        if self.runner.weights.changed():
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
        count = sum(1 + len(part.guesses) for part, _ in sampling)
        if not logits_XV.shape[0]:
            return []
        with torch.inference_mode(), self.runner.rounded():
            wide_XV = logits_XV.float()
            total_X = wide_XV.logsumexp(-1)
            self._score(plan, wide_XV[count:], total_X[count:])
            best_X = logits_XV[:count].argmax(-1).tolist()
            # NaN or infinity among the logits shows in their sum.
            sound_X = total_X[:count].isfinite().tolist()
            rows, chosen = iter(range(count)), []
            for part, sequences in sampling:
                own = [next(rows) for _ in range(1 + len(part.guesses))]
                for sequence in sequences:
                    at = [(row, logits_XV[row], best_X[row] if sound_X[row] else None) for row in own]
                    chosen += [(sequence, row, token) for row, token in self._tokens(sequence, part.guesses, at)]
            told = [(row, token) for _, row, token in chosen if token is not None]
            tokens = torch.tensor(told, dtype=torch.long, device=logits_XV.device).view(-1, 2)
            logprobs = iter((wide_XV[tokens[:, 0], tokens[:, 1]] - total_X[tokens[:, 0]]).tolist())
            tops = [_tops(one, wide_XV[row], total_X[row]) for one, row, _ in chosen]
        written = [
            self._write(one, token, 0.0 if token is None else next(logprobs), likeliest)
            for (one, _, token), likeliest in zip(chosen, tops, strict=True)
        ]
        if self.guessing is not None:
            self._judge([part for part, _ in sampling], written)
        return written

    def _tokens(
        self, sequence: Sequence, guesses: Row[int], at: Row[tuple[int, Tensor, int | None]]
    ) -> list[tuple[int, int | None]]:
        """The tokens of one sequence, each with its row: behind each guess that was right one more. `at`: rows with
        their logits and the likeliest token, None where they are no numbers."""
        before, found = len(sequence.tokens), []
        for (row, logits_V, best), guess in zip(at, (*guesses, None), strict=True):
            token = None if best is None else self._token(sequence, logits_V, best)
            found.append((row, token))
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

    def _score(self, plan: Plan, wide_XV: Tensor, total_X: Tensor) -> None:
        """The logprobs of the prompts' tokens behind those that this pass has scored."""
        before = 0
        for part in plan.parts:
            sequence, rows = part.sequence, range(before, before + len(part.scores))
            before += len(part.scores)
            for place, row in zip(part.scores, rows, strict=True):
                token = sequence.request.prompt[place + 1]
                logprob = float(wide_XV[row, token] - total_X[row])
                sequence.scores.append((token, logprob, _tops(sequence, wide_XV[row], total_X[row])))

    def _token(self, sequence: Sequence, logits_V: Tensor, best: int) -> int | None:
        """The next one; None where there can be none."""
        request, decoding = sequence.request, sequence.request.decoding
        if len(sequence.tokens) >= sequence.limit:
            return None
        if sequence.plain and self.sampler is choose:
            return best
        logits_V = ruled(logits_V, decoding, sequence.tokens, len(request.prompt), request.ends)
        if sequence.matcher is None:
            return self.sampler(logits_V, decoding, sequence.draw, sequence.tokens)
        try:
            token = self.sampler(sequence.matcher.mask(logits_V), decoding, sequence.draw, sequence.tokens)
            sequence.matcher.take(token)
        except Stuck:
            return None
        return token

    def _write(self, sequence: Sequence, token: int | None, logprob: float, tops: Tops) -> Written:
        if token is None:
            reason: StopReason = "length" if len(sequence.tokens) >= sequence.limit else "failed"
            self.scheduler.end(sequence, reason)
            return Written(sequence=sequence, token=None, reason=reason)
        self.scheduler.take(sequence, token)
        if sequence.reason != "stop" and sequence.matcher is not None and sequence.matcher.done:
            self.scheduler.end(sequence, "stop")
        return Written(sequence=sequence, token=token, logprob=logprob, tops=tops, reason=sequence.reason)

    def check(self) -> None:
        """Asserts the invariants of all that it holds, between two steps."""
        self.scheduler.check()


def _tops(sequence: Sequence, wide_V: Tensor, total: Tensor) -> Tops:
    """The likeliest tokens, as many as the request asks for."""
    if not sequence.request.logprobs:
        return ()
    best_C, ids_C = wide_V.topk(min(sequence.request.logprobs, wide_V.shape[0]))
    return tuple(zip(ids_C.tolist(), (best_C - total).tolist(), strict=True))
