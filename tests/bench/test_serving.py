"""The client that all servers are asked by, and what is made of its figures. No server but a small one of ours."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

from ..serve import small

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "serving.py"


@pytest.fixture(scope="module")
def serving():
    spec = importlib.util.spec_from_file_location("bench_serving", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def read(serving, *pieces: bytes) -> list:
    async def all_events() -> list:
        reader = asyncio.StreamReader()
        for piece in pieces:
            reader.feed_data(piece)
        reader.feed_eof()
        return [event async for event in serving.events(reader)]

    return asyncio.run(all_events())


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def test_events_are_read_whatever_pieces_they_come_in(serving):
    chunks = [b'data: {"a', b'": 1}\n\ndata: {"b": 2}\n', b"\n", b"data: [DONE]\n\n"]
    body = b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in chunks) + b"0\r\n\r\n"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert read(serving, chunked + body) == [{"a": 1}, {"b": 2}]
    assert read(serving, HEAD + b"\r\n" + b"".join(chunks).replace(b"\n", b"\r\n")) == [{"a": 1}, {"b": 2}]


def test_an_answer_that_is_none_is_an_error(serving):
    with pytest.raises(RuntimeError, match="429"):
        read(serving, b"HTTP/1.1 429 Too Many Requests\r\n\r\nlater")


def test_a_server_of_ours_is_asked(serving, tmp_path):
    from cutaway.serve.app import application
    from cutaway.serve.bounds import Bounds
    from cutaway.serve.roster import Roster
    from cutaway.serve.run import Running

    speaker = small.speaker(small.language(tmp_path))
    with Running(application(Roster([speaker]), Bounds(grace=0.0))) as server:
        port = server.bound_to[1]

        async def both() -> list:
            body = {"model": "tiny", "max_tokens": 12, "min_tokens": 12}
            return await asyncio.gather(*(serving.ask(port, {**body, "prompt": [1, 2, one]}) for one in (3, 4)))

        found = asyncio.run(both())
        with pytest.raises(RuntimeError, match="404"):
            asyncio.run(serving.ask(port, {"model": "no such", "prompt": [1]}))
        assert serving.well(port)
    assert [one.tokens for one in found] == [12, 12]
    assert all(0 < one.first <= one.last for one in found)
    assert serving.rate(found) == 24 / max(one.last for one in found)


def test_prompts_are_the_same_on_every_side_and_differ_among_themselves(serving):
    assert serving.prompt(3, 50) == serving.prompt(3, 50) != serving.prompt(4, 50)
    assert all(serving.LOW <= id < serving.VOCAB for id in serving.prompt(3, 50))
    assert serving.Load(streams=(1, 2), prompt=10, new=4, shared=3, own=1, askers=1).room == 2 * (10 + 4 + 16)


def test_claims_are_held_against_each_rounds_ratio(serving):
    ours, peer, loop = serving.OURS, serving.VLLM, serving.LOOP
    figures = {
        ours: {"1": [50.0, 60.0, 70.0], "16": [200.0, 100.0, 300.0], "32": [10.0]},
        peer: {"16": [100.0, 40.0, 150.0]},
        loop: {"1": [20.0, 30.0, 35.0]},
    }
    waits = {"apart": [30.0], "shared, first met": [2.0], "shared, met before": [1.0]}
    found = {"outside": 0.06, "waste": 0.02, "mean length": 512.0}
    told = serving.claims(figures, waits, found)
    assert [(number, holds) for _, number, holds in told] == [
        ("2.00x", True),  # 2, 2.5, 2
        ("2.00x", False),  # 2.5, 2, 2: at least 2.5 is asked
        ("15.0x (30.00 s, 2.00 s)", True),
        ("2.00%", True),
        ("6.00%", False),
    ]
    assert serving.ratio(figures, "32", ours, peer) is None
    assert serving.cell({}, "16") == "–"
    assert serving.cell({"1": [1.0, 3.0], "1 first": [0.5]}, "1") == "2.0 (1.0 to 3.0) [0.50 s]"
