"""Server-sent events, and answers that stop being written when the client has left.

https://html.spec.whatwg.org/multipage/server-sent-events.html: lines `data: ...`, a blank line after each event; the
last event is `data: [DONE]`.   Read next: serve/asking.py
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response

from cutaway.base.errors import CutawayError
from cutaway.serve.asgi import Receive, Scope, Send
from cutaway.serve.asking import Asking
from cutaway.serve.faults import Fault, encoded, fault_of
from cutaway.serve.turns import cancelled

LINGER = 30.0  # seconds behind its time that a client has to read what was written for it
Made = TypeVar("Made")


class Events(Response):
    """Sends what `events` yields, each a JSON value. What goes wrong behind the first one is told as an event; a client
    that leaves, or does not read in time, ends `asking`."""

    media_type = "text/event-stream"

    def __init__(self, asking: Asking, events: AsyncIterator[list[dict[str, Any]]]):
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.asking, self.events = asking, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout_at(self.asking.deadline + LINGER):
                await unless_left(receive, self._send(send))
        except TimeoutError:
            pass
        finally:
            self.asking.cancel()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for events in self.events:
                if events:
                    await send({"type": "http.response.body", "body": lines(events), "more_body": True})
        except Fault as fault:
            await send({"type": "http.response.body", "body": lines([fault.body]), "more_body": True})
        except CutawayError as error:
            await send({"type": "http.response.body", "body": lines([fault_of(error).body]), "more_body": True})
        except Exception as error:
            logging.getLogger("cutaway.serve").exception("an answer could not be told", exc_info=error)
            fault = Fault(500, "the server failed")
            await send({"type": "http.response.body", "body": lines([fault.body]), "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


def lines(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + encoded(event) + b"\n\n" for event in events)


async def unless_left(receive: Receive, doing: Coroutine[Any, Any, Made]) -> Made | None:
    """What `doing` gives; it is cancelled, and None comes, where the client leaves before."""
    work = asyncio.ensure_future(doing)
    watch = asyncio.ensure_future(_leaves(receive))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        await cancelled(watch)
        if not work.done():
            await cancelled(work)


async def whole(request: Request, asking: Asking, doing: Coroutine[Any, Any, Made]) -> Made:
    """As `unless_left`, ending `asking` in any case. To a client that has left it does not matter what is said."""
    try:
        made = await unless_left(request.receive, doing)
    finally:
        asking.cancel()
    if made is None:
        raise Fault(499, "the client left")
    return made


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
