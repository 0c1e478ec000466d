"""Bare connections to a server, and waiting for what happens in it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

from cutaway.serve.run import Running

# An answer of a thousand tokens, which never ends by itself: seconds of work.
LONG = {"model": "tiny", "prompt": "a", "max_tokens": 1000, "temperature": 0, "banned": [[259]]}
SHORT = {"model": "tiny", "prompt": "a", "max_tokens": 1}


def opened(server: Running) -> socket.socket:
    return socket.create_connection(server.bound_to, timeout=60)


def asked(server: Running, body: Any, path: str = "/v1/completions") -> socket.socket:
    """A connection on which a request was sent and nothing was read."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    connection = opened(server)
    connection.sendall("\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data)
    return connection


def wait_for(what: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def still(server: Running) -> bool:
    """Whether the engine does nothing and holds no page that a request would need."""
    speaker = server.server.desk.roster.speakers[0]
    stats = speaker.service.stats()
    return not (stats.running or stats.waiting)
