"""POST /v1/chat/completions: the next message of a conversation.

https://platform.openai.com/docs/api-reference/chat. The conversation becomes a text by the model's own template, the
answer a message, or calls of the tools that the request brought along.
Read next: serve/wishes.py, serve/structure.py, serve/completions.py
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response

from cutaway.infer.ask import Ask, Event
from cutaway.serve import wishes
from cutaway.serve.asking import Asking
from cutaway.serve.bodies import ChatBody
from cutaway.serve.conversation import conversation
from cutaway.serve.desk import Desk, deadline, envelope
from cutaway.serve.faults import Fault, Json
from cutaway.serve.roster import Speaker
from cutaway.serve.streaming import Events, whole
from cutaway.serve.structure import Offer, Spoken, constrained, offered
from cutaway.serve.tokens import chat_logprobs

router = APIRouter()
News = tuple[int, list[Event]]  # a choice, and what was told of it


@router.post("/v1/chat/completions", summary="Answer a conversation")
async def chat_completions(request: Request, body: ChatBody) -> Response:
    desk = Desk.of(request)
    speaker = desk.roster.speaker(body.model)
    offer, ask = await asyncio.to_thread(_ask, speaker, body, desk)
    asking = Asking(speaker.service, [ask], deadline(request))
    asking.start(desk.turns)
    reply = Reply(desk, speaker, body, asking, offer)
    if body.stream:
        return Events(asking, reply.stream())
    return Json(await whole(request, asking, reply.whole()))


def _ask(speaker: Speaker, body: ChatBody, desk: Desk) -> tuple[Offer | None, Ask]:
    bounds = desk.bounds
    count = wishes.samples(body, bounds)
    if body.top_logprobs is not None and not body.logprobs:
        raise Fault(400, "top_logprobs: needs logprobs", param="top_logprobs")
    logprobs = wishes.tops(body.top_logprobs or 0, bounds, "top_logprobs") if body.logprobs else None
    most = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    offer = offered(speaker, body)
    messages, tools = conversation(body.messages), offer.tools if offer else ()
    ids = wishes.chat_ids(speaker, messages, bounds, tools=tools, variables=body.chat_template_kwargs)
    held = constrained(speaker, body, offer)
    return offer, Ask(
        prompt=ids,
        decoding=wishes.decoding(body, speaker, bounds, len(ids), most),
        samples=count,
        logprobs=logprobs,
        constraint=held,
    )


class Reply:
    """What is told of the answers, in one piece or as they are written."""

    def __init__(self, desk: Desk, speaker: Speaker, body: ChatBody, asking: Asking, offer: Offer | None):
        self.desk, self.asking, self.speaker = desk, asking, speaker
        self.choices = range(body.n or 1)
        self.logged = bool(body.logprobs)
        self.usage = bool(body.stream_options and body.stream_options.include_usage)
        self.spoken = [Spoken(speaker, offer) for _ in self.choices]
        self.kind = "chat.completion.chunk" if body.stream else "chat.completion"
        self.head = envelope("chatcmpl", self.kind, speaker.name)
        self._began = asyncio.get_running_loop().time()

    async def whole(self) -> dict[str, Any]:
        tokens: list[list[Event]] = [[] for _ in self.choices]
        ends: dict[int, dict[str, object]] = {}
        async for letters in self.asking.told():
            for choice, events in self._news(letters):
                self.spoken[choice].push(events)
                tokens[choice] += [event for event in events if event.kind == "token"]
                if events[-1].kind == "end":
                    ends[choice] = self.spoken[choice].ended(self.asking.ended(events[-1]))
        choices = [
            {
                "index": choice,
                "message": self.spoken[choice].message,
                "logprobs": chat_logprobs(self.speaker.spelling, tokens[choice]) if self.logged else None,
                **ends[choice],
            }
            for choice in self.choices
        ]
        return {**self.head, "choices": choices, "usage": self.asking.usage}

    async def stream(self) -> AsyncIterator[list[dict[str, Any]]]:
        first = {"role": "assistant", "content": "", "refusal": None}
        yield [self._chunk(choice, first, None, None) for choice in self.choices]
        async for letters in self.asking.told():
            chunks = []
            for choice, events in self._news(letters):
                spoken = self.spoken[choice]
                deltas = spoken.push(events)
                written = [event for event in events if event.kind == "token"]
                logprobs = chat_logprobs(self.speaker.spelling, written) if self.logged and written else None
                if logprobs and not deltas:
                    deltas = [{}]
                for delta in deltas:
                    chunks.append(self._chunk(choice, delta, logprobs, None))
                    logprobs = None
                if events[-1].kind == "end":
                    chunks.append(self._chunk(choice, {}, None, spoken.ended(self.asking.ended(events[-1]))))
            yield chunks
        if self.usage:
            yield [{**self.head, "choices": [], "usage": self.asking.usage}]

    def _chunk(self, choice: int, delta: dict[str, Any], logprobs: Any, end: dict[str, Any] | None) -> dict[str, Any]:
        told = {"index": choice, "delta": delta, "logprobs": logprobs, **(end or {"finish_reason": None})}
        return {**self.head, "choices": [told], **({"usage": None} if self.usage else {})}

    def _news(self, letters: list[tuple[int, Event]]) -> list[News]:
        news: dict[int, list[Event]] = {}
        for _, event in letters:
            if event.kind == "prompt":
                self.desk.metrics.first_token(self.speaker.name, asyncio.get_running_loop().time() - self._began)
            else:
                news.setdefault(event.index, []).append(event)
        return list(news.items())
