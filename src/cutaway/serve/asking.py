"""The asks of one request, and what is told of them, until all are over, the time is up or the client has left.

Read next: serve/mailbox.py, infer/service.py, serve/completions.py
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from cutaway.base.errors import BadInput
from cutaway.infer.ask import Ask, Busy, Event
from cutaway.infer.speculated import Speculated
from cutaway.serve.faults import ENDING, Fault
from cutaway.serve.mailbox import Mailbox

if TYPE_CHECKING:
    from cutaway.infer.service import Service, Ticket
    from cutaway.serve.turns import Turns

LAST = 60.0  # seconds within which a cancelled answer must be over: a step takes less
FAILED = "the model failed: its logits were no numbers"


class Asking:
    """`cut`: why answers ended that were cancelled: "time", or "shutdown". `prompt_tokens`, `cached_tokens`: of all
    prompts; `written_tokens`: of all answers, as far as they were told."""

    def __init__(self, service: Service, asks: Sequence[Ask], deadline: float):
        self.service, self.asks, self.deadline = service, tuple(asks), deadline
        self.cut = "shutdown"
        self.prompt_tokens = sum(len(ask.prompt) for ask in asks)
        self.cached_tokens = self.written_tokens = 0
        self._box: Mailbox[tuple[int, Event]] = Mailbox()
        self._open = sum(ask.samples for ask in asks)
        self._tickets: list[Ticket] = []
        self._speculated: list[Speculated] = []  # of the answers that are over, where somebody guesses

    def start(self, turns: Turns) -> None:
        """Hands all asks in. Raises Fault, BadInput; then none of them is answered. `turns`: know whether the server is
        ending, and when to come again."""
        try:
            for place, ask in enumerate(self.asks):
                self._tickets.append(self.service.ask(ask, lambda event, place=place: self._box.put((place, event))))
        except BaseException as error:
            self.cancel()
            if isinstance(error, Busy):
                raise Fault(429, f"{error}; try again later", code="queue_full", later=turns.later) from error
            if turns.ending and not isinstance(error, BadInput):
                raise Fault(503, ENDING, later=turns.later) from error
            raise

    def cancel(self) -> None:
        """Nobody wants what is still being written."""
        for ticket in self._tickets:
            if not ticket.done:
                ticket.cancel()

    async def told(self) -> AsyncIterator[list[tuple[int, Event]]]:
        """What is new, each event with the place of its ask, in the order in which it was told. Raises Fault where the
        model failed."""
        until = self.deadline
        while self._open:
            try:
                async with asyncio.timeout_at(until):
                    letters = await self._box.take()
            except TimeoutError:
                if until != self.deadline:
                    raise Fault(500, "the engine does not answer") from None
                self.cut, until = "time", asyncio.get_running_loop().time() + LAST
                self.cancel()
                continue
            for place, event in letters:
                self._count(place, event)
            yield letters

    def _count(self, place: int, event: Event) -> None:
        if event.kind == "prompt":
            self.cached_tokens += event.cached_tokens
        elif event.kind == "token":
            self.written_tokens += 1
        else:
            self._open -= 1
            self._speculated += [event.speculated] if event.speculated is not None else []
            if event.reason == "failed":
                raise Fault(500, FAILED)

    @property
    def usage(self) -> dict[str, object]:
        """As OpenAI counts it; where somebody guesses at tokens, what came of that."""
        guessed = Speculated.joined(self._speculated)
        details = {"accepted_prediction_tokens": guessed.accepted}
        details |= {"rejected_prediction_tokens": guessed.proposed - guessed.accepted}
        more = {"completion_tokens_details": details, "speculation": guessed.figures} if self._speculated else {}
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.written_tokens,
            "total_tokens": self.prompt_tokens + self.written_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            **more,
        }

    def ended(self, event: Event) -> dict[str, object]:
        """The end of an answer: `finish_reason` by OpenAI's words. An answer that was cut off by us has "length", which
        every client knows, and `stop_reason` says by what."""
        if event.reason in ("cancelled", "stuck"):
            return {"finish_reason": "length", "stop_reason": self.cut if event.reason == "cancelled" else "rules"}
        return {"finish_reason": event.reason}
