"""A server that ends well.

Told to end (SIGTERM, Ctrl-C), the server takes nothing new, gives what runs `grace` seconds, and returns what there is
then. Told a second time it cuts off at once.   Read next: serve/listening.py, serve/app.py
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from cutaway.serve.desk import Desk
from cutaway.serve.listening import BACKLOG, address, listen

SENDING = 3.0  # seconds to send what was written when the grace is over


class Server(uvicorn.Server):
    """`signal`: what told it to end, if anything did."""

    def __init__(self, app: FastAPI, *, log: str = "error"):
        self.desk: Desk = app.state.desk
        grace = self.desk.bounds.grace
        self.signal: int | None = None
        super().__init__(
            uvicorn.Config(
                app,
                log_level=log,
                access_log=False,
                server_header=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=max(1, round(grace + SENDING)),
                backlog=BACKLOG,
                lifespan="on",
                ws_max_size=self.desk.bounds.body,
                h11_max_incomplete_event_size=64 * 1024,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not as uvicorn, which raises the signal again when all is over: who serves ends with a code of its own."""
        self.signal = sig
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    def end(self) -> None:
        """As a signal would, from any thread."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.desk.turns.end()
        closing = threading.Thread(target=self.desk.roster.close, args=(self.desk.bounds.grace,), daemon=True)
        closing.start()
        await super().shutdown(sockets)
        # Whoever is left has had the time that there was; what the engine still writes nobody reads.
        await asyncio.to_thread(self.desk.roster.close, 0.0)


def serve(app: FastAPI, bound: socket.socket, *, log: str = "error") -> int:
    """Serves until told to end; the exit code: 0, or 130 for Ctrl-C."""
    server = Server(app, log=log)
    server.run(sockets=[bound])
    return 130 if server.signal == signal.SIGINT else 0


class Running:
    """A server in a thread of its own, for whoever serves and goes on with something else; `url` is where."""

    def __init__(self, app: FastAPI, *, host: str = "127.0.0.1", port: int = 0, **options: Any):
        self.bound = listen(host, port)
        self.bound_to: tuple[str, int] = self.bound.getsockname()[:2]
        self.url = address(self.bound)
        self.server = Server(app, **options)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.bound]}, daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *told: object) -> None:
        self.server.end()
        self._thread.join()
