"""POST /v1/completions: texts that go on, from one prompt or several.

https://platform.openai.com/docs/api-reference/completions. Answer i of prompt p is choice p * n + i.
Read next: serve/wishes.py, serve/asking.py, serve/chat.py
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response

from cutaway.infer.ask import Ask, Event
from cutaway.serve import wishes
from cutaway.serve.asking import Asking
from cutaway.serve.bodies import CompletionBody
from cutaway.serve.desk import Desk, deadline, envelope
from cutaway.serve.faults import Fault, Json
from cutaway.serve.roster import Speaker
from cutaway.serve.streaming import Events, whole
from cutaway.serve.structure import guided
from cutaway.serve.tokens import Listing, joined

router = APIRouter()
SHORT = 16  # tokens of an answer where nobody says, as OpenAI has it


@router.post("/v1/completions", summary="Continue texts")
async def completions(request: Request, body: CompletionBody) -> Response:
    desk = Desk.of(request)
    speaker = desk.roster.speaker(body.model)
    asks = await asyncio.to_thread(_asks, speaker, body, desk)
    asking = Asking(speaker.service, asks, deadline(request))
    asking.start(desk.turns)
    reply = Reply(desk, speaker, body, asking)
    if body.stream:
        return Events(asking, reply.stream())
    return Json(await whole(request, asking, reply.whole()))


def _asks(speaker: Speaker, body: CompletionBody, desk: Desk) -> list[Ask]:
    bounds = desk.bounds
    given = prompts(body)
    if len(given) > bounds.prompts:
        raise Fault(400, f"prompt: at most {bounds.prompts} of them", param="prompt")
    if body.stream and body.best_of is not None and body.best_of > (body.n or 1):
        raise Fault(
            400, "best_of: the best of several are known at their end, which no stream can wait for", param="best_of"
        )
    asks, count = [], wishes.samples(body, bounds, body.best_of)
    most = SHORT if body.max_tokens is None else body.max_tokens
    logprobs = wishes.tops(body.logprobs, bounds, "logprobs")
    wanted = guided(speaker, body)
    for prompt in given:
        ids = wishes.prompt_ids(speaker, prompt, bounds)
        asks.append(
            Ask(
                prompt=ids,
                decoding=wishes.decoding(body, speaker, bounds, len(ids), most),
                samples=count,
                best_of=body.best_of,
                logprobs=logprobs,
                prompt_logprobs=bool(body.echo and logprobs is not None),
                constraint=wanted,
            )
        )
    return asks


def prompts(body: CompletionBody) -> list[str | list[int]]:
    """Each prompt of a request, as text or as ids. Raises Fault for an empty list."""
    given: Any = body.prompt
    if isinstance(given, list) and not given:
        raise Fault(400, "prompt: is an empty list", param="prompt")
    return given if isinstance(given, list) and not isinstance(given[0], int) else [given]


class Reply:
    """What is told of the answers, in one piece or as they are written."""

    def __init__(self, desk: Desk, speaker: Speaker, body: CompletionBody, asking: Asking):
        self.desk, self.asking, self.model = desk, asking, speaker.name
        self.tokenizer = speaker.tokenizer
        self.count = body.n or 1
        self.given = prompts(body) if body.echo else None
        self.logged = body.logprobs is not None
        self.usage = bool(body.stream_options and body.stream_options.include_usage)
        self.listings = [Listing(speaker.spelling, alternatives=bool(body.logprobs)) for _ in self._choices()]
        self.head = envelope("cmpl", "text_completion", speaker.name)
        self._began = asyncio.get_running_loop().time()

    def _choices(self) -> range:
        return range(len(self.asking.asks) * self.count)

    async def whole(self) -> dict[str, Any]:
        texts: list[list[str]] = [[] for _ in self._choices()]
        lists: list[list[dict[str, Any]]] = [[] for _ in self._choices()]
        ends: dict[int, dict[str, object]] = {}
        async for letters in self.asking.told():
            for choice, text, logprobs, end in self._news(letters):
                texts[choice].append(text)
                lists[choice] += [logprobs] if logprobs else []
                ends |= {choice: end} if end else {}
        empty = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        choices = [
            {
                "index": choice,
                "text": "".join(texts[choice]),
                "logprobs": joined(lists[choice] or [empty]) if self.logged else None,
                **ends[choice],
            }
            for choice in self._choices()
        ]
        return {**self.head, "choices": choices, "usage": self.asking.usage}

    async def stream(self) -> AsyncIterator[list[dict[str, Any]]]:
        told = {"usage": None} if self.usage else {}
        async for letters in self.asking.told():
            yield [
                {**self.head, "choices": [_choice(choice, text, logprobs, end)], **told}
                for choice, text, logprobs, end in self._news(letters)
                if text or end or logprobs
            ]
        if self.usage:
            yield [{**self.head, "choices": [], "usage": self.asking.usage}]

    def _news(self, letters: list[tuple[int, Event]]) -> list[tuple[int, str, Any, dict[str, object]]]:
        """For each choice of which there is something new: its text, its logprobs, its end."""
        news: dict[int, list[Event]] = {}
        found = []
        for place, event in letters:
            if event.kind == "prompt":
                self.desk.metrics.first_token(self.model, asyncio.get_running_loop().time() - self._began)
                if self.given is not None:
                    found += self._echo(place, event)
            else:
                news.setdefault(place * self.count + event.index, []).append(event)
        for choice, events in news.items():
            written = [event for event in events if event.kind == "token"]
            logprobs = self.listings[choice].written(written) if self.logged and written else None
            end = self.asking.ended(events[-1]) if events[-1].kind == "end" else {}
            found.append((choice, "".join(event.text for event in events), logprobs, end))
        return found

    def _echo(self, place: int, event: Event) -> list[tuple[int, str, Any, dict[str, object]]]:
        """The prompt before each of its answers."""
        assert self.given is not None
        prompt, found = self.given[place], []
        text = (
            prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt, special=True) if self.tokenizer else ""
        )
        for choice in range(place * self.count, (place + 1) * self.count):
            listing = self.listings[choice]
            logprobs = listing.echoed(event.prompt, not isinstance(prompt, str)) if self.logged else None
            listing.offset = len(text)
            found.append((choice, text, logprobs, {}))
        return found


def _choice(choice: int, text: str, logprobs: Any, end: dict[str, object]) -> dict[str, Any]:
    return {"index": choice, "text": text, "logprobs": logprobs, **(end or {"finish_reason": None})}
