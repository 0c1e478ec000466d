"""The engine in a thread of its own: many callers ask, each is told its answers as they are written.

Callers give token ids and a function; the one thread steps, decodes text, finds stop texts and calls that function.
Nothing that a caller does waits for a step, and a caller makes no tensors.
    service = Service(language)
    ticket = service.ask(Ask(prompt=(1, 2, 3)), lambda event: print(event.text, end=""))
Read next: infer/engine.py, infer/ask.py, infer/writing.py
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from functools import partial

from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.ask import Ask, Busy, Event, Listen, Stats
from cutaway.infer.engine import Engine, Written
from cutaway.infer.guessing import Guessing
from cutaway.infer.language import Language
from cutaway.infer.proposers import Proposer
from cutaway.infer.request import Request, Sequence, StopReason
from cutaway.infer.scheduler import Limits
from cutaway.infer.speculated import Speculated
from cutaway.infer.writing import Answers
from cutaway.models.decoder import DecoderModel

LATELY = 5.0
"""Seconds over which tokens a second are counted."""


class Ticket:
    """One ask. `error`: what its own listener raised, which cancelled it."""

    def __init__(self, service: Service, request: Request, answers: Answers, listen: Listen):
        self._service, self._request, self._answers, self._listen = service, request, answers, listen
        self._first: Sequence | None = None  # once the engine has it
        self._read = False  # whether its prompt was: then it waits no more
        self._done = threading.Event()
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether the last event was told."""
        return self._done.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for the last event; whether it came in time."""
        return self._done.wait(seconds)

    def cancel(self) -> None:
        """Ends all answers that are being written, before the next step. What has ended stays so."""
        self._service._cancel(self)


class Service:
    """`queue`: asks that may wait for their prompt to be read, beyond those that are being answered. `model`: a name.
    Any thread may call; listeners are called by the service's own, and must not take long."""

    def __init__(
        self,
        language: Language,
        *,
        limits: Limits | None = None,
        deterministic: bool = False,
        proposer: Proposer | None = None,
        model: str | None = None,
        queue: int = 256,
    ):
        if not isinstance(language.module, DecoderModel):
            raise BadInput("is an encoder: it writes nothing", source=language.source, field="model")
        language.check_weights()
        self.language, self.model, self.queue = language, model or language.source or "model", queue
        self._engine = Engine(
            language.module,
            limits=limits,
            forms=language.forms,
            sampler=language.sampler,
            deterministic=deterministic,
            kept=language.kept,
            guessing=None if proposer is None else Guessing(proposer, language),
        )
        self._ends = language.tokenizer.eos_ids if language.tokenizer else frozenset()
        self._changed = threading.Condition()  # guards all that follows
        self._coming: deque[Ticket] = deque()
        self._leaving: deque[Ticket] = deque()
        self._waiting = 0  # asks whose prompt is not read yet
        self._closing = False
        self._error: BaseException | None = None
        self._tickets: dict[int, Ticket] = {}  # by the number of their first sequence; the thread's own
        self._recent: deque[tuple[float, int]] = deque()  # when a step ended, tokens it wrote
        self._thread = threading.Thread(target=self._work, name="cutaway-service", daemon=True)
        self._thread.start()
        self._at_exit = partial(_close, weakref.ref(self))
        atexit.register(self._at_exit)

    @property
    def longest(self) -> int:
        """Tokens that one prompt and its answer can have together."""
        return self._engine.scheduler.longest

    def ask(self, ask: Ask, listen: Listen) -> Ticket:
        """Takes an ask in and returns at once; `listen` is told of it from another thread.

        Raises BadInput for what could never be answered, Busy where too many wait, CutawayError where the service is
        closed or has failed.
        """
        request = self._request(ask)
        self._engine.refuse(request)
        ticket = Ticket(self, request, Answers(ask, self.language.tokenizer, self._ends), listen)
        with self._changed:
            if self._error is not None:
                raise CutawayError(f"the engine has failed: {_said(self._error)}") from self._error
            if self._closing:
                raise CutawayError("the service is closed")
            if self._waiting >= self.queue:
                raise Busy(f"{self._waiting} requests wait already")
            self._waiting += 1
            self._coming.append(ticket)
            self._changed.notify_all()
        return ticket

    def stats(self) -> Stats:
        """How things stand, as of the last step."""
        scheduler, now = self._engine.scheduler, time.monotonic()
        pools, counts = scheduler.tables.pools, scheduler.counts
        with self._changed:
            coming = len(self._coming)
            recent = sum(count for when, count in self._recent if when > now - LATELY)
        return Stats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + coming,
            pages=sum(pool.pages for pool in pools),
            pages_held=sum(pool.held for pool in pools),
            pages_shared=sum(pool.shared for pool in pools),
            prefix_hits=counts.prefix_hits,
            prefix_tokens=counts.prefix_tokens,
            prompt_tokens=counts.prompt_tokens,
            written_tokens=counts.written_tokens,
            preemptions=counts.preemptions,
            steps=counts.steps,
            tokens_per_second=recent / LATELY,
            accepted=counts.accepted,
            proposed=counts.proposed,
        )

    def close(self, *, finish: float = 0.0) -> None:
        """Takes nothing in any more; gives what was asked `finish` seconds to end, then cancels the rest. Returns when
        every listener has had its last event. May be called again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if finish > 0 and threading.current_thread() is not self._thread:
                self._changed.wait_for(self._idle, timeout=finish)
            self._leaving.extend(self._coming)
            self._leaving.extend(self._tickets.values())
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        atexit.unregister(self._at_exit)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *told: object) -> None:
        self.close()

    def _request(self, ask: Ask) -> Request:
        matcher = None
        if ask.constraint is not None:
            if self.language.tokenizer is None:
                raise BadInput("a model without a tokenizer has no texts to constrain", field="constraint")
            ask.constraint.agrees(ask.decoding)
            matcher = ask.constraint.begin(self.language.tokenizer).copy  # one for each answer
        return Request(
            prompt=ask.prompt,
            decoding=ask.decoding,
            ends=self._ends,
            priority=ask.priority,
            samples=ask.drawn,
            logprobs=ask.logprobs,
            prompt_logprobs=ask.prompt_logprobs,
            matcher=matcher,
        )

    def _cancel(self, ticket: Ticket) -> None:
        with self._changed:
            self._leaving.append(ticket)
            self._changed.notify_all()

    def _idle(self) -> bool:
        return not self._thread.is_alive() or not (self._coming or self._tickets)

    # What follows runs in the service's own thread.

    def _work(self) -> None:
        try:
            while self._next():
                if not self._engine.idle:
                    written = self._engine.step()
                    for one in written:
                        self._hear(one)
                    self._count(written)
        except BaseException as error:  # told to all who wait, and raised to all who ask
            with self._changed:
                self._error = error
        finally:
            self._end_all("failed" if self._error else "cancelled")

    def _next(self) -> bool:
        """Waits until there is something to do, and takes in what came; False at the end."""
        with self._changed:
            while not (self._coming or self._leaving or self._tickets):
                if self._closing:
                    return False
                self._changed.wait()
            coming, leaving = list(self._coming), list(self._leaving)
            self._leaving.clear()
        for ticket in coming:
            if ticket not in leaving:
                self._begin(ticket)
        # Only now: whoever looks meanwhile finds each ticket in one place at least.
        with self._changed:
            for _ in coming:
                self._coming.popleft()
        for ticket in leaving:
            self._leave(ticket, "cancelled")
        return True

    def _begin(self, ticket: Ticket) -> None:
        ticket._first = first = self._engine.submit(ticket._request)
        with self._changed:
            self._tickets[first.number] = ticket
        if first.reason is not None:  # nothing was asked for
            self._tell(ticket, [*self._prompt(ticket), *_ended(ticket, first)])

    def _hear(self, written: Written) -> None:
        """Tells of a token, unless its ticket has left meanwhile."""
        sequence = written.sequence
        ticket = self._tickets.get(sequence.siblings[0].number)
        if ticket is None:
            return
        answers, index, reason = ticket._answers, sequence.index, written.reason
        if index not in answers.open:  # its text has met a stop at an earlier token of the same step
            return
        events = self._prompt(ticket)
        if written.token is not None:
            events += answers.token(index, written.token, written.logprob, written.tops)
        if reason is None and answers.stopped(index):
            self._engine.end(sequence, "stop")
            reason = "stop"
        if reason is not None:
            events += answers.end(index, reason, self._speculated(sequence))
        self._tell(ticket, [*events, *_ended(ticket, sequence.siblings[0])])

    def _speculated(self, sequence: Sequence) -> Speculated | None:
        return None if self._engine.guessing is None else self._engine.guessing.told(sequence)

    def _prompt(self, ticket: Ticket) -> list[Event]:
        first = ticket._first
        assert first is not None
        if not ticket._read:
            ticket._read = True
            with self._changed:
                self._waiting -= 1
        return ticket._answers.prompt(first.scores, first.shared)

    def _tell(self, ticket: Ticket, events: list[Event]) -> None:
        try:
            for event in events:
                ticket._listen(event)
        except Exception as error:  # its own affair: nobody else's answer suffers
            ticket.error = error
            self._leave(ticket, "cancelled", silently=True)
        if not ticket._answers.open:
            self._forget(ticket)

    def _leave(self, ticket: Ticket, reason: StopReason, silently: bool = False) -> None:
        """Ends what is still open of a ticket."""
        if ticket.done:
            return
        if ticket._first is not None:
            self._engine.cancel(ticket._first)
        events = []
        for index in sorted(ticket._answers.open):
            guessed = None if ticket._first is None else self._speculated(ticket._first.siblings[index])
            events += ticket._answers.end(index, reason, guessed)
        if silently:
            self._forget(ticket)
        else:
            self._tell(ticket, events)

    def _forget(self, ticket: Ticket) -> None:
        with self._changed:
            if not ticket.done:
                self._waiting -= not ticket._read
                if ticket._first is not None:
                    self._tickets.pop(ticket._first.number, None)
                ticket._done.set()
                self._changed.notify_all()

    def _end_all(self, reason: StopReason) -> None:
        with self._changed:
            self._closing = True
            left = [*self._tickets.values(), *self._coming]
            self._coming.clear()
        for ticket in left:
            events = [event for index in sorted(ticket._answers.open) for event in ticket._answers.end(index, reason)]
            self._tell(ticket, events)

    def _count(self, written: list[Written]) -> None:
        now = time.monotonic()
        with self._changed:
            self._recent.append((now, sum(one.token is not None for one in written)))
            while self._recent[0][0] < now - LATELY:
                self._recent.popleft()


def _ended(ticket: Ticket, first: Sequence) -> list[Event]:
    """The ends of answers of which no token was asked for, once there is one of the first."""
    none = first.reason is not None and first.limit <= len(first.request.prompt)
    return [event for each in first.siblings for event in ticket._answers.end(each.index, "length")] if none else []


def _close(service: weakref.ref[Service]) -> None:
    """At the interpreter's end: a thread in the middle of a step would be in torch while torch is taken down."""
    if (found := service()) is not None:
        found.close()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
