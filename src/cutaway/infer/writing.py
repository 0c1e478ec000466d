"""The text of answers as they are written: token by token, never half a character, never a piece of a stop text.

Read next: infer/service.py, infer/answer.py (StopText), text/detokenizer.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cutaway.infer.answer import StopText
from cutaway.infer.ask import Ask, Event
from cutaway.infer.request import Scored, StopReason, Tops
from cutaway.infer.speculated import Speculated

if TYPE_CHECKING:
    from cutaway.text.tokenizer import Tokenizer


class Writing:
    """One answer. `take` each token, `end` at last; both give what is new of its text."""

    def __init__(self, tokenizer: Tokenizer | None, stops: tuple[str, ...]):
        self.detokenizer = tokenizer.detokenizer() if tokenizer else None
        self.stops = StopText(stops)

    @property
    def stopped(self) -> bool:
        """Whether a stop text was met: nothing behind it is text."""
        return self.stops.hit

    def take(self, token: int) -> str:
        """The text that is sure to belong to the answer now."""
        return self.stops.push(self.detokenizer.push(token)) if self.detokenizer else ""

    def end(self) -> str:
        """What was held back. Bytes of half a character are none, and not shown."""
        if self.detokenizer is None or self.stopped:
            return ""
        rest = self.stops.push(self.detokenizer.flush().rstrip("\ufffd"))
        return rest if self.stopped else rest + self.stops.flush()


class Answers:
    """All that is drawn for one ask: makes events of what the engine writes. Where more is drawn than is handed out,
    they are held until all are there, and those with the highest mean logprob come first."""

    def __init__(self, ask: Ask, tokenizer: Tokenizer | None, ends: frozenset[int]):
        self.ask, self.ends = ask, ends
        self.writings = [Writing(tokenizer, ask.decoding.stop) for _ in range(ask.drawn)]
        self.open = set(range(ask.drawn))
        self._held: list[list[Event]] = [[] for _ in range(ask.drawn)]
        self._told_prompt = False

    def prompt(self, scores: list[Scored], cached: int) -> list[Event]:
        """The prompt was read; told once."""
        if self._told_prompt:
            return []
        self._told_prompt = True
        told = tuple(scores) if self.ask.prompt_logprobs else ()
        return [Event(index=0, kind="prompt", prompt=told, cached_tokens=cached)]

    def token(self, index: int, token: int, logprob: float, tops: Tops) -> list[Event]:
        """A token of one answer. Where `stopped` says so behind it, the answer ends."""
        # The end of a turn is no text, and what stands before it is whole.
        text = "" if token in self.ends else self.writings[index].take(token)
        return self._tell(Event(index=index, kind="token", text=text, token=token, logprob=logprob, tops=tops))

    def stopped(self, index: int) -> bool:
        """Whether an answer has met a stop text."""
        return self.writings[index].stopped

    def end(self, index: int, reason: StopReason, speculated: Speculated | None = None) -> list[Event]:
        """One answer is over."""
        if index not in self.open:
            return []
        text = self.writings[index].end()
        reason = "stop" if self.stopped(index) else reason
        self.open.remove(index)
        return self._tell(Event(index=index, kind="end", text=text, reason=reason, speculated=speculated))

    def _tell(self, event: Event) -> list[Event]:
        if self.ask.drawn == self.ask.samples:
            return [event]
        self._held[event.index].append(event)
        return [] if self.open else self._best()

    def _best(self) -> list[Event]:
        best = sorted(self._held, key=_mean, reverse=True)[: self.ask.samples]
        return [replace(event, index=index) for index, events in enumerate(best) for event in events]


def _mean(events: list[Event]) -> tuple[bool, float]:
    """How good an answer is: one that failed or was cancelled is the last that is taken."""
    logprobs = [event.logprob for event in events if event.kind == "token"]
    return events[-1].reason in ("stop", "length"), sum(logprobs) / max(len(logprobs), 1)
