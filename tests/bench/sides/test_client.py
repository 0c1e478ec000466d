"""The client that all servers are asked by. The only server here is a small one of ours."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

from ...serve import small

FILE = Path(__file__).resolve().parents[3] / "bench" / "sides" / "client.py"


@pytest.fixture(scope="module")
def client():
    spec = importlib.util.spec_from_file_location("bench_sides_client", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def read(client, *pieces: bytes) -> list:
    async def all_events() -> list:
        reader = asyncio.StreamReader()
        for piece in pieces:
            reader.feed_data(piece)
        reader.feed_eof()
        return [event async for event in client.events(reader)]

    return asyncio.run(all_events())


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def test_events_are_read_whatever_pieces_they_come_in(client):
    chunks = [b'data: {"a', b'": 1}\n\ndata: {"b": 2}\n', b"\n", b"data: [DONE]\n\n"]
    body = b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in chunks) + b"0\r\n\r\n"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert read(client, chunked + body) == [{"a": 1}, {"b": 2}]
    assert read(client, HEAD + b"\r\n" + b"".join(chunks).replace(b"\n", b"\r\n")) == [{"a": 1}, {"b": 2}]


def test_an_answer_that_is_none_is_an_error(client):
    with pytest.raises(RuntimeError, match="429"):
        read(client, b"HTTP/1.1 429 Too Many Requests\r\n\r\nlater")


def test_a_server_of_ours_is_asked(client, tmp_path):
    from cutaway.serve.app import application
    from cutaway.serve.bounds import Bounds
    from cutaway.serve.roster import Roster
    from cutaway.serve.run import Running

    speaker = small.speaker(small.language(tmp_path))
    with Running(application(Roster([speaker]), Bounds(grace=0.0))) as server:
        port = server.bound_to[1]

        async def both() -> list:
            body = {"model": "tiny", "max_tokens": 12, "min_tokens": 12}
            return await asyncio.gather(*(client.ask(port, {**body, "prompt": [1, 2, one]}) for one in (3, 4)))

        found = asyncio.run(both())
        with pytest.raises(RuntimeError, match="404"):
            asyncio.run(client.ask(port, {"model": "no such", "prompt": [1]}))
        assert client.well(port)
    assert [one.tokens for one in found] == [12, 12]
    assert all(0 < one.first <= one.last for one in found)
    assert client.rate(found) == 24 / max(one.last for one in found)


def test_prompts_are_the_same_on_every_side_and_differ_among_themselves(client):
    assert client.prompt(3, 50) == client.prompt(3, 50) != client.prompt(4, 50)
    assert all(client.LOW <= id < client.VOCAB for id in client.prompt(3, 50))
