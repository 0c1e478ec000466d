"""Servers as processes of their own, of which one runs at a time: the others are stopped (SIGSTOP) meanwhile.

Read next: client.py, plain.py
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sides.client import Timing, ask, prompt, well

STARTING = 900.0  # seconds that a server may take to start


@dataclass(kw_only=True)
class Server:
    """A server that runs. `fields`: what a request must say for its answer to have all tokens."""

    name: str
    port: int
    model: str
    process: subprocess.Popen[bytes]
    fields: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def going(self) -> Iterator[None]:
        """It runs for as long as this lasts, and is stopped before and after."""
        os.killpg(self.process.pid, signal.SIGCONT)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGSTOP)

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def round(self, prompts: list[list[int]], new: int) -> list[Timing]:
        """All of them at once."""
        body = {"model": self.model, "max_tokens": new}
        told = {name: new if value is None else value for name, value in self.fields.items()}

        async def all_of_them() -> list[Timing]:
            return await asyncio.gather(*(ask(self.port, {**body, **told, "prompt": one}) for one in prompts))

        with self.going():
            return asyncio.run(all_of_them())


def start(name: str, command: list[str], model: str, fields: dict[str, Any], log: Path, **environment: str) -> Server:
    """Starts a server and waits until it is well. `{port}` in the command is where it is to listen."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [word.replace("{port}", str(port)) for word in command]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, **environment}, start_new_session=True
        )
    server, end = Server(name=name, port=port, model=model, process=process, fields=fields), time.time() + STARTING
    while not well(port):
        if process.poll() is not None or time.time() > end:
            server.end()
            raise SystemExit(f"{name} did not start; see {log}")
        time.sleep(0.5)
    server.round([prompt(0, 32)], 4)  # the first request unpacks, compiles, plans
    print(f"up: {name}", file=sys.stderr)
    return server
