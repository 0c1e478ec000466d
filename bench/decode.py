"""Decode and prefill, one stream: Cutaway beside transformers and llama.cpp (where llama_cpp is installed).

    python bench/decode.py [--rounds 5] [--threads 2] [--prompt 512] [--new 128]
    python bench/decode.py --model smollm2-135m | gemma3-270m | synthetic-1.5b [--work FOLDER] [--out FILE]

The first holds torch alone against transformers, on the shipped Q4_1 file; for transformers its own reader expands it,
in float32 and in bfloat16, and the faster of each column is the one to beat. With --model these are held against
llama.cpp: our kernels with fp32 and with int8 activations, torch, and "as it comes" (kernels with fp32, and for long
prompts torch in bfloat16 where the CPU is good at that). The models: smollm2-135m rounded to Q4_0, gemma3-270m in its
own file, and a Qwen2 of 1.5 billion random weights in Q4_0, which no cache holds; of that, too, what share of the
bandwidth of memory each side reaches (the bytes of all weights for every token against what torch reads of a large
buffer, in each round).

Every side is a process of its own (sides/answering.py) and answers when it is asked, the others asleep. Every round
asks every side once, so that all meet the same neighbours on the machine; figures are medians of rounds, ratios medians
of each round's ratio. llama.cpp is to be built for this machine, which is what pip does where there is a compiler
(`pip install llama-cpp-python==0.3.36`); the table says what its library was built with.
`--cpu` counts the processor's time in place of the clock's: with --threads 1 a guide where other work runs beside.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from sides.answering import Side
from sides.models import rounded, shipped, synthetic

import cutaway
from cutaway.cli.machine import look
from cutaway.lab.measure import buffer_size, read_bandwidth
from cutaway.weights.gguf.reader import read_gguf

TORCH, USUAL, KERNELS, INT8, LLAMA = "torch", "usual", "kernels", "kernels-int8", "llama.cpp"
LOOPS = ("transformers-float32", "transformers-bfloat16")
LABELS = {TORCH: "cutaway (torch)", USUAL: "cutaway (as it comes)", KERNELS: "cutaway (kernels)"}
LABELS |= {INT8: "cutaway (kernels, int8)"}
OURS = tuple(LABELS)
PREFILL, DECODE, LONG, DRAWN = "prefill", "decode", "decode far in", "sampling"
REST = 0.2  # seconds between two sides, in which the threads of the first fall asleep

Figures = dict[str, dict[str, list[float]]]  # side -> column -> tokens a second, one for each round


@dataclass(frozen=True, kw_only=True)
class Load:
    """Tokens: of the prompt that is timed, of the one that `new` are written behind, and of a long one that `far` are
    written behind (0: none)."""

    prompt: int = 512
    short: int = 32
    new: int = 128
    long: int = 2000
    far: int = 64


@dataclass(frozen=True, kw_only=True)
class Claim:
    """`side` is at least so many times as fast as `peer` (one of them, or the fastest of several) in that column, or
    than itself in another column. `goal`: what is hoped for beyond."""

    side: str
    column: str
    least: float
    peers: tuple[str, ...] = (LLAMA,)
    against: str | None = None
    goal: float | None = None

    def ratio(self, figures: Figures) -> float | None:
        """The median of the rounds' ratios; None where something was not measured."""
        column = self.against or self.column
        mine = figures.get(self.side, {}).get(self.column)
        theirs = [figures[peer][column] for peer in self.peers if column in figures.get(peer, {})]
        if not mine or not theirs:
            return None
        return statistics.median(one / max(others) for one, *others in zip(mine, *theirs, strict=True))

    def __str__(self) -> str:
        if self.against:
            return f"{label(self.side)}: {self.column} against {self.against}"
        return f"{self.column}: {label(self.side)} against {self.peers[0].partition('-')[0]}"


def own(side: str, column: str, least: float) -> Claim:
    return Claim(side=side, column=column, least=least, peers=(side,), against=DECODE)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one command measures. `seconds`: of a round, about, on two cores."""

    about: str
    file: Callable[[Path], Path]
    sides: tuple[str, ...]
    load: Load
    claims: tuple[Claim, ...]
    seconds: float
    beyond: bool = False  # whether the weights are beyond any cache, so that bandwidth bounds all sides


TRIALS: dict[str | None, Trial] = {
    None: Trial(
        about="smollm2-135m (Q4_1, as shipped)",
        file=shipped("smollm2-135m"),
        sides=(TORCH, *LOOPS, LLAMA),
        load=Load(short=512, long=0),
        claims=(
            Claim(side=TORCH, column=DECODE, least=3.0, peers=LOOPS),
            Claim(side=TORCH, column=PREFILL, least=1.0, peers=LOOPS),
            own(TORCH, DRAWN, 0.95),
        ),
        seconds=30,
    ),
    "smollm2-135m": Trial(
        about="smollm2-135m, rounded to Q4_0",
        file=rounded("smollm2-135m", "q4_0"),
        sides=(TORCH, USUAL, KERNELS, INT8, LLAMA),
        load=Load(),
        claims=(
            Claim(side=INT8, column=DECODE, least=2.5, goal=4.0),
            Claim(side=KERNELS, column=DECODE, least=1.5),
            Claim(side=INT8, column=PREFILL, least=2.0, goal=2.6),
            Claim(side=KERNELS, column=PREFILL, least=1.0),
            Claim(side=USUAL, column=PREFILL, least=1.0),
            *(own(side, LONG, 0.6) for side in (INT8, KERNELS)),
            *(own(side, DRAWN, 0.95) for side in (INT8, KERNELS)),
        ),
        seconds=35,
    ),
    "gemma3-270m": Trial(
        about="gemma3-270m (Q4_K_M, as shipped)",
        file=shipped("gemma3-270m"),
        sides=(TORCH, KERNELS, INT8, LLAMA),
        load=Load(),
        claims=(
            Claim(side=INT8, column=DECODE, least=1.5, goal=2.0),
            Claim(side=KERNELS, column=DECODE, least=1.5, goal=2.0),
            *(own(side, DRAWN, 0.95) for side in (INT8, KERNELS)),
        ),
        seconds=60,
    ),
    "synthetic-1.5b": Trial(
        about="1.5 billion random weights in the shape of Qwen2.5-1.5B, Q4_0",
        file=synthetic,
        sides=(TORCH, KERNELS, INT8, LLAMA),
        load=Load(prompt=128, short=16, new=32, long=0),
        claims=(
            Claim(side=INT8, column=DECODE, least=1.0),
            Claim(side=KERNELS, column=DECODE, least=1.0),
        ),
        seconds=60,
        beyond=True,
    ),
}


def label(side: str) -> str:
    return LABELS.get(side, side.replace("-", " "))


def asked(side: Side, ids: list[int], load: Load) -> dict[str, float]:
    """Every column of one side, once."""
    before, after = side.answer(ids[: load.short], load.new)
    found = {DECODE: (load.new - 1) / after}
    if load.short != load.prompt:
        before, _ = side.answer(ids[: load.prompt], 1)
    found[PREFILL] = load.prompt / before
    if load.long:
        _, after = side.answer(ids[: load.long], load.far)
        found[LONG] = (load.far - 1) / after
    if side.name in OURS:
        _, after = side.answer(ids[: load.short], load.new, True)
        found[DRAWN] = (load.new - 1) / after
    return found


def measure(file: Path, names: list[str], load: Load, arguments: argparse.Namespace) -> tuple[Figures, list[float]]:
    """Tokens a second of every side; then the bytes a second that memory gave in each round."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 40_000, (max(load.prompt, load.short, load.long),), generator=draw).tolist()
    figures: Figures = {name: {} for name in names}
    bandwidths, seen = [], look()
    with ExitStack() as stack:
        sides = []
        for name in names:
            log = arguments.work / f"{name}.log"
            sides.append(side := stack.enter_context(Side(name, file, arguments.threads, log, cpu=arguments.cpu)))
            side.answer(ids[: load.prompt], 4)  # the first run touches pages, packs weights and plans
            print(f"warm: {label(name)}", file=sys.stderr)
        for number in range(arguments.rounds):
            bandwidths.append(read_bandwidth(buffer_size(seen.cache, seen.memory_free)))
            # Another side begins each round: the one behind a side that left the caches full of its own has it harder.
            turn = number % len(sides)
            for side in sides[turn:] + sides[:turn]:
                time.sleep(REST)
                for column, rate in asked(side, ids, load).items():
                    figures[side.name].setdefault(column, []).append(rate)
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    return figures, bandwidths


def first_token(threads: int) -> float:
    """Seconds from starting `cutaway generate` to its first character, the model in the cache."""
    command = [sys.executable, "-m", "cutaway", "--threads", str(threads), "generate", "smollm2-135m"]
    start = time.perf_counter()
    # Unbuffered, so that the first byte is read when it is written.
    with subprocess.Popen(
        [*command, "The capital of France is", "--max-tokens", "8"], stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    assert process.returncode == 0
    return seconds


def shares(figures: Figures, bandwidths: list[float], size: int) -> dict[str, float]:
    """How much of the bandwidth each side reaches that reads `size` bytes for a token."""
    return {
        name: statistics.median(size * rate / most for rate, most in zip(columns[DECODE], bandwidths, strict=True))
        for name, columns in figures.items()
    }


def report(
    trial: Trial, figures: Figures, bandwidths: list[float], waits: list[float], arguments: argparse.Namespace
) -> str:
    """The table and what it says, as Markdown."""
    packages = [name for name in ("torch", "transformers", "llama-cpp-python") if _version(name)]
    load, size = arguments.load, weight_bytes(arguments.file)
    clock = "; processor time, not the clock's" if arguments.cpu else ""
    lines = [
        f"# Decode and prefill, {date.today()}",
        "",
        f"`python bench/decode.py {' '.join(arguments.said)}`; {look().processor}, {arguments.threads} threads, "
        f"{platform.system()}; Python {platform.python_version()}, "
        + ", ".join(f"{name} {_version(name)}" for name in packages)
        + f", cutaway {cutaway.__version__}.",
        f"{trial.about}, {size / 1e6:.0f} MB of weights; one stream; tokens/s, median (lowest to highest) of "
        f"{arguments.rounds} rounds{clock}. Prefill: {load.prompt} tokens. Decode: {load.new} behind {load.short}"
        + (f"; far in: {load.far} behind {load.long}" if load.long else "")
        + ". Sampling: temperature, top-k and top-p.",
    ]
    if LLAMA in figures:
        lines.append(f"llama.cpp: {system_info()}.")
    columns = [one for one in (DECODE, PREFILL, LONG, DRAWN) if any(one in found for found in figures.values())]
    lines += ["", f"| side | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name, found in figures.items():
        lines.append(f"| {label(name)} | " + " | ".join(cell(found.get(column)) for column in columns) + " |")
    lines += ["", "| ratio | found | at least | goal | |", "|---|---|---|---|---|"]
    for claim in trial.claims:
        ratio = claim.ratio(figures)
        if ratio is not None:
            goal = "" if claim.goal is None else f"{claim.goal:g}x"
            held = "holds" if ratio >= claim.least else "falls short"
            lines.append(f"| {claim} | {ratio:.2f}x | {claim.least:g}x | {goal} | {held} |")
    if trial.beyond and not arguments.cpu:
        told = ", ".join(f"{label(name)} {share:.0%}" for name, share in shares(figures, bandwidths, size).items())
        rate = statistics.median(bandwidths)
        lines += ["", f"Of the {rate / 1e9:.1f} GB/s that memory is read at, decoding reaches: {told}."]
    if waits:
        lines += ["", f"`cutaway generate` to its first token: {statistics.median(waits):.1f} s"]
    return "\n".join(lines) + "\n"


def cell(rates: list[float] | None) -> str:
    if not rates:
        return ""
    digits = 0 if statistics.median(rates) >= 100 else 1
    return f"{statistics.median(rates):.{digits}f} ({min(rates):.{digits}f} to {max(rates):.{digits}f})"


def weight_bytes(file: Path) -> int:
    """Bytes of a file's matrices: what a token reads where the token table is the head, as in all of these."""
    return sum(tensor.bytes for tensor in read_gguf(file).tensors.values() if len(tensor.shape) == 2)


def system_info() -> str:
    """What llama.cpp's library was built with, as it says itself."""
    import llama_cpp

    told = llama_cpp.llama_print_system_info().decode()
    found = [one.strip() for one in told.partition("CPU :")[2].split("|")]
    return ", ".join(one.removesuffix(" = 1") for one in found if one.endswith("= 1")) or told.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def without(given: list[str], *paths: str) -> list[str]:
    """A command's words without the options that name a place on this machine."""
    kept: list[str] = []
    for before, word in zip(["", *given], given, strict=False):
        if before not in paths and word.partition("=")[0] not in paths:
            kept.append(word)
    return kept


def read_arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[name for name in TRIALS if name], help="kernels against llama.cpp")
    parser.add_argument("--sides", help="which, with commas between: of torch, usual, kernels, kernels-int8, "
                        "llama.cpp, transformers-float32, transformers-bfloat16")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    for name in Load.__dataclass_fields__:
        parser.add_argument(f"--{name}", type=int, help="tokens")
    parser.add_argument("--cpu", action="store_true", help="count the processor's time")
    parser.add_argument("--work", type=Path, default=Path("decode-bench"), help="a folder for weights and logs")
    parser.add_argument("--out", type=Path, help="write the table here (Markdown), raw numbers beside it (JSON)")
    arguments = parser.parse_args(given)
    arguments.said = without(given, "--work", "--out")
    told = {name: getattr(arguments, name) for name in Load.__dataclass_fields__}
    plain = vars(TRIALS[arguments.model].load) | {name: value for name, value in told.items() if value is not None}
    if arguments.model is None:
        plain["short"] = arguments.short or plain["prompt"]
    arguments.load = Load(**plain)
    arguments.work = arguments.work.resolve()
    return arguments


def main() -> None:
    arguments = read_arguments(sys.argv[1:])
    trial = TRIALS[arguments.model]
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    names = arguments.sides.split(",") if arguments.sides else list(trial.sides)
    if importlib.util.find_spec("llama_cpp") is None and not arguments.sides:
        names.remove(LLAMA)
    print(f"about {1 + arguments.rounds * trial.seconds / 60:.0f} minutes on two cores", file=sys.stderr)
    arguments.file = trial.file(arguments.work)
    figures, bandwidths = measure(arguments.file, names, arguments.load, arguments)
    waits = [] if arguments.model else [first_token(arguments.threads) for _ in range(3)]
    text = report(trial, figures, bandwidths, waits, arguments)
    table = Table("side", "prefill tokens/s", "decode tokens/s")
    for name, columns in figures.items():
        table.add_row(label(name), *(f"{statistics.median(columns[column]):.0f}" for column in (PREFILL, DECODE)))
    Console(stderr=True).print(table)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
        raw = {"figures": figures, "bandwidth": bandwidths, "first_token": waits}
        arguments.out.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
