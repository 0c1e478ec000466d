"""Decode and prefill of smollm2-135m: Cutaway beside transformers (and llama.cpp, where llama_cpp is installed).

    python bench/decode.py [--rounds 5] [--threads 2] [--prompt 512] [--new 128]

Every round runs every side once, so that all meet the same neighbours on the machine; figures are medians of rounds,
ratios medians of each round's ratio. All sides hold the same weights: the shipped Q4_1 file, for transformers expanded
by its own reader. transformers runs in float32 and in bfloat16, and the faster of each column is the one to beat.
"""

from __future__ import annotations

import argparse
import gc
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
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import cutaway
from cutaway.cli.machine import look
from cutaway.weights.shelf import get

Side = Callable[[list[int], int], tuple[float, float]]  # prompt ids, new tokens -> seconds of prefill, of decoding


def ours(path: Path, threads: int) -> dict[str, Side]:
    """Greedy, and drawn with temperature, top-k and top-p: what sampling costs is the ratio of the two."""
    language = cutaway.load(path)

    def run(ids: list[int], new: int, **options: float) -> tuple[float, float]:
        start = time.perf_counter()
        pieces = language.stream(ids, max_tokens=new, **options)
        language_ends = []
        for _ in pieces:
            language_ends.append(time.perf_counter())
        # The first piece comes with the prefill; an early end of turn shortens the answer, so rates count tokens.
        return language_ends[0] - start, (language_ends[-1] - language_ends[0]) / (len(language_ends) - 1) * (new - 1)

    def greedy(ids: list[int], new: int) -> tuple[float, float]:
        return run(ids, new)

    def drawn(ids: list[int], new: int) -> tuple[float, float]:
        return run(ids, new, temperature=0.8, top_k=50, top_p=0.95, seed=0)

    return {"cutaway": greedy, "cutaway sampling": drawn}


def theirs(path: Path, threads: int) -> dict[str, Side]:
    from transformers import AutoModelForCausalLM, DynamicCache

    def side(dtype: torch.dtype) -> Side:
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype).eval()

        @torch.inference_mode()
        def run(ids: list[int], new: int) -> tuple[float, float]:
            cache = DynamicCache(config=model.config)
            start = time.perf_counter()
            out = model(torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            first = time.perf_counter()
            # The bare loop: generate() adds bookkeeping of its own, and would only be slower.
            for _ in range(new - 1):
                token = model(token, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1, keepdim=True)
            return first - start, time.perf_counter() - first

        return run

    return {"transformers float32": side(torch.float32), "transformers bfloat16": side(torch.bfloat16)}


def llama_cpp(path: Path, threads: int) -> dict[str, Side]:
    if importlib.util.find_spec("llama_cpp") is None:
        return {}
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=1024, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False)

    def run(ids: list[int], new: int) -> tuple[float, float]:
        llama.reset()
        start = time.perf_counter()
        llama.eval(ids)
        token = llama.sample(temp=0.0)
        first = time.perf_counter()
        for _ in range(new - 1):
            llama.eval([token])
            token = llama.sample(temp=0.0)
        return first - start, time.perf_counter() - first

    return {"llama.cpp Q4_1": run}


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


def measure(rounds: int, threads: int, prompt: int, new: int) -> dict[str, dict[str, list[float]]]:
    path = get("smollm2-135m")
    sides = {**ours(path, threads), **theirs(path, threads), **llama_cpp(path, threads)}
    ids = torch.randint(1000, 40_000, (prompt,), generator=torch.Generator().manual_seed(0)).tolist()
    figures: dict[str, dict[str, list[float]]] = {name: {"prefill": [], "decode": []} for name in sides}
    for name, side in sides.items():
        side(ids[:32], 4)  # the first run touches pages and plans
        print(f"warm: {name}", file=sys.stderr)
    names = list(sides)
    for index in range(rounds):
        # Another side begins each round: the one behind a side that left the caches full of its own has it harder.
        for name in names[index % len(names) :] + names[: index % len(names)]:
            gc.collect()
            before, after = sides[name](ids, new)
            figures[name]["prefill"].append(prompt / before)
            figures[name]["decode"].append((new - 1) / after)
        print(f"round {index + 1} of {rounds}", file=sys.stderr)
    return figures


def ratio(figures: dict[str, dict[str, list[float]]], column: str, name: str, peers: list[str]) -> float:
    """The median over the rounds of `name` against the fastest of the peers in that round."""
    rounds = zip(figures[name][column], *(figures[peer][column] for peer in peers), strict=True)
    return statistics.median(mine / max(others) for mine, *others in rounds)


def report(figures: dict[str, dict[str, list[float]]], waits: list[float], arguments: argparse.Namespace) -> str:
    """The table and what it says, as Markdown."""
    packages = [name for name in ("torch", "transformers", "llama-cpp-python") if _version(name)]
    lines = [
        f"# Decode and prefill, {date.today()}",
        "",
        f"`python bench/decode.py --rounds {arguments.rounds} --threads {arguments.threads}`; "
        f"{look().processor}, {arguments.threads} threads, {platform.system()}; Python {platform.python_version()}, "
        + ", ".join(f"{name} {_version(name)}" for name in packages)
        + f", cutaway {cutaway.__version__}.",
        f"smollm2-135m (Q4_1), prompt {arguments.prompt}, {arguments.new} new tokens, batch 1; tokens/s, median "
        f"(lowest to highest) of {arguments.rounds} rounds.",
        "",
        "| side | prefill | decode |",
        "|---|---|---|",
    ]
    for name, columns in figures.items():
        cells = [
            f"{statistics.median(columns[c]):.0f} ({min(columns[c]):.0f} to {max(columns[c]):.0f})"
            for c in ("prefill", "decode")
        ]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    peers = [name for name in figures if name.startswith("transformers")]
    lines += [
        "",
        f"- decode against transformers: {ratio(figures, 'decode', 'cutaway', peers):.2f}x",
        f"- prefill against transformers: {ratio(figures, 'prefill', 'cutaway', peers):.2f}x",
        f"- sampling against greedy: {ratio(figures, 'decode', 'cutaway sampling', ['cutaway']):.2f}x",
        f"- `cutaway generate` to its first token: {statistics.median(waits):.1f} s",
    ]
    if "llama.cpp Q4_1" in figures:
        lines.append(f"- decode against llama.cpp Q4_1: {ratio(figures, 'decode', 'cutaway', ['llama.cpp Q4_1']):.2f}x")
    return "\n".join(lines) + "\n"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--out", type=Path, help="write the table here (Markdown), raw numbers beside it (JSON)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(arguments.rounds, arguments.threads, arguments.prompt, arguments.new)
    waits = [first_token(arguments.threads) for _ in range(3)]
    text = report(figures, waits, arguments)
    table = Table("side", "prefill tokens/s", "decode tokens/s")
    for name, columns in figures.items():
        table.add_row(name, *(f"{statistics.median(columns[column]):.0f}" for column in ("prefill", "decode")))
    Console(stderr=True).print(table)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
        raw = {"figures": figures, "first_token": waits}
        arguments.out.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
