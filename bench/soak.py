"""Many clients on one server, most of them ill-behaved, for minutes: what it must survive, and what it must not lose.

    python bench/soak.py [MODEL] [--clients 200] [--minutes 5] [--mix whole=4,stream=4,slow=1,...] [--json]

The server is `cutaway serve MODEL` in a process of its own, on a loopback port. Each client does one thing after the
other, drawn by its own seed: a whole answer; a stream; a stream that is read slowly; a stream, or a whole answer, that
is left in the middle; several samples; a body that is no request; one that is too large; bytes that are no HTTP.
Held against: every greedy answer is what the model says alone, or begins as it where it was left; where a token
differs, the likeliest must lead it by less than NEAR (infer/ties.py), and those are counted. No status of 500; the
process lives; when all have gone, no answer runs and no page is held; its memory after a first third grows by less than
FLAT.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cutaway.cli.machine import look
from cutaway.infer.ties import NEAR

FLAT = 0.10  # of the memory, and 64 MB for what the C library keeps
MIX = "whole=4,stream=4,slow=1,leave=3,vanish=2,samples=1,garbage=2,huge=1,bytes=1"
TEXTS = (
    "Once upon a time",
    "The capital of France is",
    "def add(a, b):",
    "人之初，性本善。",
    "List three colours:",
    "Dear Sir or Madam,",
    "1, 2, 3, 4,",
    "The quick brown fox jumps over the lazy dog. " * 8,
)
GARBAGE = (b"", b"{", b"[]", b'{"prompt": 1.5}', b'{"prompt": "a", "n": -1}', b"\xff\xff", b'{"prompt": "\\ud800"}')
BODY = 200_000


@dataclass
class Tally:
    done: collections.Counter[str] = field(default_factory=collections.Counter)
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)
    leads: list[float] = field(default_factory=list)
    compared: int = 0
    tokens: int = 0


class Soak:
    """`expected`: what the model alone says to (prompt, length), as text and as tokens, each with those that might
    stand in its place and by how much it leads them."""

    def __init__(self, url: str, expected: dict[tuple[str, int], Any], mix: dict[str, int]):
        self.url, self.expected, self.mix, self.tally = url, expected, mix, Tally()
        self.until = 0.0

    async def client(self, seed: int) -> None:
        draw = random.Random(seed)
        kinds, weights = list(self.mix), list(self.mix.values())
        async with httpx.AsyncClient(base_url=self.url, timeout=httpx.Timeout(None)) as session:
            while time.monotonic() < self.until:
                kind = draw.choices(kinds, weights)[0]
                try:
                    await getattr(self, f"_{kind}")(session, draw)
                    self.tally.done[kind] += 1
                except httpx.TransportError as error:
                    if kind not in ("huge", "bytes"):  # the server may close on those
                        self.tally.faults.append(f"{kind}: {error!r}")
                await asyncio.sleep(draw.random() * 0.1)

    def _ask(self, draw: random.Random, **more: Any) -> tuple[tuple[str, int], dict[str, Any]]:
        key = draw.choice(list(self.expected))
        return key, {"prompt": key[0], "max_tokens": key[1], "temperature": 0, "logprobs": 0, **more}

    async def _post(self, session: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        while True:
            told = await session.post("/v1/completions", json=body)
            self.tally.statuses[told.status_code] += 1
            if told.status_code not in (429, 503):
                break
            left = self.until - time.monotonic()
            if left <= 0:
                return {"choices": []}
            await asyncio.sleep(min(float(told.headers["retry-after"]), left))
        if told.status_code != 200:
            self.tally.faults.append(f"{told.status_code}: {told.text[:200]}")
            return {"choices": []}
        return told.json()

    async def _whole(self, session: httpx.AsyncClient, draw: random.Random) -> None:
        key, body = self._ask(draw)
        for choice in (await self._post(session, body))["choices"]:
            self._compare(key, choice["text"], choice["logprobs"]["tokens"], whole=True)

    async def _samples(self, session: httpx.AsyncClient, draw: random.Random) -> None:
        _, body = self._ask(draw, temperature=1, n=3, seed=draw.randrange(1000))
        made = await self._post(session, body)
        if made["choices"] and [choice["index"] for choice in made["choices"]] != [0, 1, 2]:
            self.tally.faults.append("samples: not three of them")

    async def _stream(
        self, session: httpx.AsyncClient, draw: random.Random, pause: float = 0, most: int = 1 << 30
    ) -> None:
        key, body = self._ask(draw, stream=True)
        text, tokens, ended = "", [], False
        async with session.stream("POST", "/v1/completions", json=body) as told:
            self.tally.statuses[told.status_code] += 1
            if told.status_code != 200:
                if told.status_code not in (429, 503):
                    self.tally.faults.append(f"stream: {told.status_code}")
                return
            async for line in told.aiter_lines():
                if line == "data: [DONE]":
                    ended = True
                elif line.startswith("data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        self.tally.faults.append(f"stream: {event['error']}")
                        return
                    choice = event["choices"][0]
                    text += choice["text"]
                    tokens += (choice["logprobs"] or {"tokens": []})["tokens"]
                    await asyncio.sleep(pause)
                    if len(tokens) >= most:
                        break
        self._compare(key, text, tokens, whole=ended)
        if not ended and most > 1000:
            self.tally.faults.append("stream: no end")

    async def _slow(self, session: httpx.AsyncClient, draw: random.Random) -> None:
        await self._stream(session, draw, pause=0.2)

    async def _leave(self, session: httpx.AsyncClient, draw: random.Random) -> None:
        await self._stream(session, draw, most=draw.randint(1, 4))

    async def _vanish(self, session: httpx.AsyncClient, draw: random.Random) -> None:
        """Asks for a whole answer and does not wait for it."""
        _, body = self._ask(draw, max_tokens=400)
        try:
            await asyncio.wait_for(session.post("/v1/completions", json=body), draw.random() * 0.5)
        except TimeoutError:
            return

    async def _garbage(self, session: httpx.AsyncClient, draw: random.Random) -> None:
        path = draw.choice(("/v1/completions", "/v1/chat/completions", "/v1/embeddings"))
        told = await session.post(path, content=draw.choice(GARBAGE), headers={"content-type": "application/json"})
        self.tally.statuses[told.status_code] += 1
        if told.status_code not in (400, 429, 503):
            self.tally.faults.append(f"garbage: {told.status_code}")

    async def _huge(self, session: httpx.AsyncClient, draw: random.Random) -> None:
        told = await session.post("/v1/completions", json={"prompt": "a" * draw.randint(BODY + 1, 20 * BODY)})
        self.tally.statuses[told.status_code] += 1
        if told.status_code != 413:
            self.tally.faults.append(f"huge: {told.status_code}")

    async def _bytes(self, session: httpx.AsyncClient, draw: random.Random) -> None:
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(draw.randbytes(draw.randint(1, 2000)) + b"\r\n\r\n")
            await writer.drain()
            await asyncio.wait_for(reader.read(100), 1)
        except (TimeoutError, OSError):
            pass
        finally:
            writer.close()

    def _compare(self, key: tuple[str, int], text: str, tokens: list[str], *, whole: bool) -> None:
        said, alone = self.expected[key]
        self.tally.compared += 1
        self.tally.tokens += len(tokens)
        for place, token in enumerate(tokens):
            if place < len(alone) and token == alone[place][0]:
                continue
            if place < len(alone) and token in alone[place][1]:
                self.tally.leads.append(alone[place][1][token])
            else:
                there = alone[place : place + 1]
                self.tally.faults.append(f"{key[0][:20]!r}: token {place} is {token!r}, alone {there}, of {tokens}")
            return
        if (text != said) if whole else not said.startswith(text):
            self.tally.faults.append(f"{key[0][:20]!r}: said {text!r}, alone {said!r}")


def alone(model: str, lengths: tuple[int, ...]) -> dict[tuple[str, int], Any]:
    """What the model says by itself: one text at a time, one token at a time, by the forms of `cutaway serve`."""
    import cutaway
    from cutaway.infer.language import Language
    from cutaway.ops.forms import attending

    language, expected = cutaway.load(model, forms=attending()), {}
    assert isinstance(language, Language) and language.tokenizer is not None
    for text in TEXTS:
        ids, held, rows = language.encode(text), language.continuation(), []
        answers = {length: language.generate(ids, max_tokens=length) for length in lengths}
        logits_V = held.feed(held.rewind(ids, room=len(ids) + max(lengths)))  # as `generate` does it
        for token in answers[max(lengths)].tokens:
            behind_V = logits_V.float().max() - logits_V.float()
            near = (behind_V < NEAR).nonzero().flatten().tolist()
            others = {language.tokenizer.token(id): round(float(behind_V[id]), 4) for id in near if id != token}
            rows.append((language.tokenizer.token(token), others))
            logits_V = held.feed([token])
        for length, answer in answers.items():
            expected[text, length] = answer.text, rows[: len(answer.tokens)]
    return expected


def memory(pid: int) -> int:
    """Bytes of a process that are in memory; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").split("VmRSS:")[1].split()
    except (OSError, IndexError):
        return 0
    return int(fields[0]) * 1024


def figure(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


async def run(soak: Soak, clients: int, seconds: float, pid: int) -> list[int]:
    """All clients to their ends; the memory at each thirtieth of the time."""
    start = time.monotonic()
    soak.until = start + seconds
    work = [asyncio.ensure_future(soak.client(seed)) for seed in range(clients)]
    held = []
    while time.monotonic() < start + seconds:
        await asyncio.sleep(seconds / 30)
        held.append(memory(pid))
        if sys.stderr.isatty():  # somebody watches
            sys.stderr.write(f"\r{time.monotonic() - start:.0f} s, {sum(soak.tally.done.values())} requests ")
    await asyncio.gather(*work)
    return held


def judge(soak: Soak, url: str, process: subprocess.Popen[str], held: list[int]) -> dict[str, Any]:
    tally = soak.tally
    if process.poll() is not None:
        tally.faults.append(f"the server ended with {process.returncode}")
    else:
        end = time.monotonic() + 60
        while time.monotonic() < end and figure(url, "cutaway_running") + figure(url, "cutaway_pages_held") > 0:
            time.sleep(0.2)
        for name in ("cutaway_running", "cutaway_waiting", "cutaway_pages_held", "cutaway_requests_running"):
            if figure(url, name):
                tally.faults.append(f"{name} is {figure(url, name):.0f} when all have gone")
    first, last = held[len(held) // 3], max(held[-3:])
    if last > first * (1 + FLAT) + 64 * 2**20:
        tally.faults.append(f"memory grew from {first >> 20} to {last >> 20} MB")
    if not tally.compared:
        tally.faults.append("no answer was compared")
    return {
        "requests": dict(tally.done),
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "answers compared": tally.compared,
        "tokens compared": tally.tokens,
        "near ties": len(tally.leads),
        "largest lead at one": max(tally.leads, default=0.0),
        "memory MB": [first >> 20, last >> 20],
        "faults": len(tally.faults),
        "first faults": tally.faults[:5],
    }


def about() -> dict[str, str]:
    """What ran, and where."""
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "cutaway"))
    machine = f"{look().processor}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}"
    return {"command": " ".join(("python bench/soak.py", *sys.argv[1:])), "machine": f"{machine}, {packages}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--mix", default=MIX, help="kinds of requests with their weights")
    parser.add_argument("--lengths", default="8,24,48", help="tokens of answers")
    parser.add_argument("--running", type=int, default=32)
    parser.add_argument("--waiting", type=int, default=96, help="fewer than clients: some are sent away and come again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    mix = {kind: int(weight) for kind, _, weight in (pair.partition("=") for pair in arguments.mix.split(","))}
    expected = alone(arguments.model, tuple(int(length) for length in arguments.lengths.split(",")))
    bounds = {"running": arguments.running, "waiting": arguments.waiting, "body": BODY}
    options = [text for name, value in bounds.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "cutaway", "serve", arguments.model, "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr is not None
        line = next((line for line in process.stderr if line.startswith("serving ")), "")
        if not line:
            return 1
        url = line.rsplit(" at ", 1)[1].strip().removesuffix("/v1")
        soak = Soak(url, expected, mix)
        try:
            held = asyncio.run(run(soak, arguments.clients, arguments.minutes * 60, process.pid))
            told = judge(soak, url, process, held)
        finally:
            process.terminate()
        rest = process.stderr.read()
    told["exit code"] = process.returncode
    told["said"] = [line for line in rest.splitlines() if line != "Ctrl-C ends it" and "to talk with it" not in line][
        :5
    ]
    told = {**about(), **told}
    print(json.dumps(told, ensure_ascii=False, indent=None if arguments.json else 2))
    return 1 if told["faults"] or process.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
