"""The client that every server is asked by: one streamed completion over plain HTTP, timed.

Server-sent events come in pieces of any size (chunked transfer coding, RFC 9112, section 7.1).
Read next: processes.py
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

VOCAB, LOW = 49152, 1000  # of smollm2; ids below are special or bytes


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One answer: seconds to its first token and to its last, and how many it has."""

    first: float
    last: float
    tokens: int


async def ask(port: int, body: dict[str, Any]) -> Timing:
    """One streamed completion. Raises RuntimeError for an answer that is none."""
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    text = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    first = last = tokens = 0
    try:
        async for event in events(reader):
            now = time.perf_counter() - start
            if event.get("choices"):
                first, last, tokens = first or now, now, tokens + 1
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
    finally:
        writer.close()
    if not first:
        raise RuntimeError("the server sent no tokens")
    return Timing(first=first, last=last, tokens=tokens)


async def events(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each event of a stream, whatever pieces it comes in."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if " 200 " not in head.splitlines()[0]:
        raise RuntimeError(f"{head.splitlines()[0]}: {(await reader.read())[:300]!r}")
    chunked, left = "transfer-encoding: chunked" in head, b""
    while True:
        if chunked:
            size = int(await reader.readline(), 16)
            piece = (await reader.readexactly(size + 2))[:size]
        else:
            piece = await reader.read(65536)
        *whole, left = (left + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        for one in whole:
            if one.startswith(b"data: ") and one != b"data: [DONE]":
                yield json.loads(one[6:])
        if not piece:
            return


def well(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def prompt(seed: int, tokens: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(LOW, VOCAB) for _ in range(tokens)]


def rate(found: list[Timing]) -> float:
    """Tokens a second of all answers together, from the first byte sent to the last one read."""
    return sum(one.tokens for one in found) / max(one.last for one in found)
