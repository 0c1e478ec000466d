"""Every request that costs something waits for its turn, with its body read, and has a time at which it ends.

So many run at once; so many more wait, in the order in which they came; whoever comes then is told to come later (429
with Retry-After). A body that is too large is refused before it is read, or as soon as it shows. A client that leaves
while it waits leaves the queue.   Read next: serve/pace.py, serve/asking.py (what ends a request that runs)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from cutaway.serve.asgi import ASGIApp, Message, Receive, Scope, Send
from cutaway.serve.bounds import Bounds
from cutaway.serve.faults import ENDING, Fault, told
from cutaway.serve.pace import Pace, bounded

DEADLINE = "cutaway.deadline"  # in the scope: the loop's time at which the request ends


class Turns:
    """`watch(path, status, seconds)` hears of each request that ended."""

    def __init__(self, bounds: Bounds, watch: Callable[[str, int, float], None]):
        self.bounds, self.watch = bounds, watch
        self.running = 0
        self.ending = False
        self.pace = Pace()
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def later(self) -> int:
        """Seconds after which the same request may go well: when those who wait now will have had their turns, or when
        a server that is ending will have gone, for another to take its place."""
        return bounded(self.bounds.grace) if self.ending else self.pace.wait(max(self.waiting, 1))

    def end(self) -> None:
        """From now on whoever waits or comes is sent away."""
        self.ending = True
        for one in self._line:
            if not one.done():
                one.set_result(None)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, to whose paths below /v1/ one comes in turn."""

        async def turned(scope: Scope, receive: Receive, send: Send) -> None:
            await self._pass(app, scope, receive, send)

        return turned

    async def _pass(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await app(scope, receive, send)
            return
        began, status = asyncio.get_running_loop().time(), 499  # 499: the client left before it was told anything

        async def listening(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if scope["method"] == "POST":
                scope[DEADLINE] = began + self.bounds.seconds
                await self._in_turn(app, scope, receive, listening)
            else:
                await app(scope, receive, listening)
        except Fault as fault:
            await told(fault)(scope, receive, listening)
        finally:
            self.watch(scope["path"], status, asyncio.get_running_loop().time() - began)

    async def _in_turn(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if self.ending:
            raise Fault(503, ENDING, later=self.later)
        try:
            async with asyncio.timeout_at(scope[DEADLINE]):
                body = await read(scope, receive, self.bounds.body)
        except TimeoutError:
            raise Fault(408, "the request did not come in time", code="timeout") from None
        if body is None:
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(messages, None) or await receive()

        if not await self._turn(scope[DEADLINE], receive):
            return
        try:
            await app(scope, again, send)
        finally:
            self._leave()

    async def _turn(self, deadline: float, receive: Receive) -> bool:
        """Waits until a place is free and takes it; False where the client left. Raises Fault where there is no place
        to wait in, or none got free in time."""
        if self.running < self.bounds.running and not self._line:
            self._take()
            return True
        if len(self._line) >= self.bounds.waiting:
            raise Fault(429, "too many requests at once; try again later", code="queue_full", later=self.later)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        left = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({place, left}, timeout=max(deadline - place.get_loop().time(), 0), return_when=FIRST)
            if left.done():
                return False
            if self.ending:
                raise Fault(503, ENDING, later=self.later)
            if not place.done():
                raise Fault(503, "no turn came in time; try again later", code="timeout", later=self.later)
            self._take()
            return True
        finally:
            with suppress(ValueError):
                self._line.remove(place)
            await cancelled(left)
            self._next()

    def _take(self) -> None:
        self.running += 1
        self.pace.began()

    def _leave(self) -> None:
        self.running -= 1
        self.pace.ended(self.running + self.waiting)
        self._next()

    def _next(self) -> None:
        """Wakes as many of those who wait as there are places for; each takes its own when it runs."""
        free = self.bounds.running - self.running
        for one in list(self._line)[: max(free, 0)]:
            if not one.done():
                one.set_result(None)


FIRST = asyncio.FIRST_COMPLETED


async def read(scope: Scope, receive: Receive, most: int) -> bytes | None:
    """The whole body; None where the client left before its end. Raises Fault for one of more than `most` bytes."""
    too_large = Fault(
        413, f"the body is larger than {most} bytes", code="body_too_large", headers={"connection": "close"}
    )
    told = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if told.isdigit() and (len(told) > 18 or int(told) > most):
        raise too_large
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > most:
            raise too_large
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _left(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancelled(task: asyncio.Future) -> None:
    """Cancels a task and waits for its end, whatever that is."""
    task.cancel()
    await asyncio.wait({task})
