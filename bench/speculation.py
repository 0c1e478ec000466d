"""Guesses against none: seconds of decoding with each proposer, beside the same answer without, on smollm2-135m.

    python bench/speculation.py [--rounds 5] [--threads 2] [--new 128] [--early 27] [--out FILE]

Every round runs every side once on every prompt, so that all meet the same neighbours on the machine; ratios are
medians of each round's ratio. Time counts from the first token to the last, as reading the prompt is the same for all.
`always`: the lookup that does not measure whether it pays. An answer is a copy where that one has at least COPIED of
its guesses kept: what a model is asked to repeat it need not repeat. With --cpu the clock is the processor's of one
thread: a guide on a busy machine. CUTAWAY_KERNELS chooses what runs, as everywhere.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import cutaway
from cutaway.cli.machine import look
from cutaway.infer.language import Language
from cutaway.infer.proposers import EarlyExit, PromptLookup, Proposer

CODE = """def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)


def variance(values):
    center = mean(values)
    return mean([(value - center) ** 2 for value in values])


def standardised(values):
    center, spread = mean(values), variance(values) ** 0.5
    return [(value - center) / spread for value in values]
"""
LETTER = (
    "Dear Ms Whitcombe, the parcel that you ordered on the third of May left our warehouse in Rotterdam on the fifth. "
    "It was weighed at 2.41 kilograms and carries the number 7740-1193-2286. The carrier tells us that it was held at "
    "the border for two days, as the form that names its contents was missing. We have sent that form again."
)
PROMPTS = {
    "letter, repeated": f"Repeat this letter word for word: {LETTER}",
    "code, repeated": f"Repeat this file, character for character:\n```python\n{CODE}```",
    "a story": "Write a short story about a lighthouse keeper who finds a map.",
    "an explanation": "Why is the sky blue? Explain it to an adult in a few paragraphs.",
    "advice": "How do I prepare for a long journey on foot? Answer in prose.",
}
COPIED = 0.9
CLAIMS = {True: ("where the answer is a copy", 1.5), False: ("elsewhere", 0.95)}


def sides(early: int) -> dict[str, Proposer | None]:
    """Every side by name; the first has no guesses."""
    return {
        "none": None,
        "lookup": PromptLookup(),
        "lookup, always": PromptLookup(adaptive=False),
        f"early:{early}": EarlyExit(blocks=early),
    }


def timed(
    language: Language, ids: list[int], new: int, proposer: Proposer | None, clock: Callable[[], float]
) -> tuple[float, int, Any]:
    """Seconds from the first token to the last, tokens behind the first, and what came of guesses."""
    pieces, first = [], 0.0
    for piece in language.stream(ids, max_tokens=new, proposer=proposer):
        first = first if pieces else clock()
        pieces.append(piece)
    return clock() - first, len(pieces) - 1, pieces[-1].speculated


def measured(language: Language, rounds: int, new: int, early: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """A row for each prompt and side."""
    rows = []
    for name, prompt in PROMPTS.items():
        ids = language.encode([{"role": "user", "content": prompt}])
        seconds: dict[str, list[float]] = {side: [] for side in sides(early)}
        told: dict[str, Any] = {}
        for _ in range(rounds):
            for side, proposer in sides(early).items():
                spent, tokens, told[side] = timed(language, ids, new, proposer, clock)
                seconds[side].append(spent / max(1, tokens))
        always = told["lookup, always"]
        for side, each in seconds.items():
            ratios = [plain / ours for plain, ours in zip(seconds["none"], each, strict=True)]
            came = told[side]
            rows.append(
                {
                    "prompt": name,
                    "copy": (always.rate or 0.0) >= COPIED,
                    "side": side,
                    "ms_a_token": 1e3 * statistics.median(each),
                    "ratio": statistics.median(ratios),
                    "acceptance": came.rate if came else None,
                    "tokens_a_pass": came.per_pass if came else None,
                    "expected": came.expected if came else None,
                }
            )
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    numbers = [row[name] for name in ("acceptance", "tokens_a_pass", "expected")]
    prompt = f"{row['prompt']} (a copy)" if row["copy"] else row["prompt"]
    told = [prompt, row["side"], f"{row['ms_a_token']:.1f}", f"{row['ratio']:.2f}"]
    return told + ["" if number is None else f"{number:.2f}" for number in numbers]


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """The lookup's least ratio against what is claimed of it, in each kind of answer that there was."""
    said = []
    for copy, (where, bound) in CLAIMS.items():
        ratios = [row["ratio"] for row in rows if row["copy"] is copy and row["side"] == "lookup"]
        if ratios:
            verdict = "holds" if min(ratios) >= bound else "falls short"
            said.append(f"lookup {where}: at least {min(ratios):.2f} times as fast (wanted: {bound}): {verdict}")
    return said


TITLES = ("prompt", "guesses", "ms a token", "times as fast", "kept", "tokens a pass", "expected")


def page(rows: list[dict[str, Any]], threads: int, rounds: int, new: int) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "cutaway"))
    kernels = os.environ.get("CUTAWAY_KERNELS", "as usual")
    lines = [
        f"# Guesses, {date.today()}",
        "",
        f"`python {' '.join(sys.argv)}`, CUTAWAY_KERNELS {kernels}; {look().processor}, {threads} threads, "
        f"{platform.system()}; Python {platform.python_version()}, {versions}.",
        f"smollm2-135m, {new} new tokens, medians of {rounds} rounds.",
        "",
        f"| {' | '.join(TITLES)} |",
        "|---" * len(TITLES) + "|",
        *(f"| {' | '.join(cells(row))} |" for row in rows),
        "",
        *verdicts(rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--early", type=int, default=27)
    parser.add_argument("--cpu", action="store_true", help="Processor time of this thread; implies --threads 1.")
    parser.add_argument("--json", type=Path, help="Also write the rows here.")
    parser.add_argument("--out", type=Path, help="Also write the table here, as Markdown.")
    told = parser.parse_args()
    threads = 1 if told.cpu else told.threads
    torch.set_num_threads(threads)
    language = cutaway.load("smollm2-135m")
    timed(language, language.encode("warm"), 8, None, time.perf_counter)
    clock = time.thread_time if told.cpu else time.perf_counter
    rows = measured(language, told.rounds, told.new, told.early, clock)
    table = Table(*TITLES, title=f"smollm2-135m, {told.new} new tokens, medians of {told.rounds} rounds")
    for row in rows:
        table.add_row(*cells(row))
    Console().print(table)
    for line in verdicts(rows):
        print(line)
    if told.json:
        told.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if told.out:
        told.out.write_text(page(rows, threads, told.rounds, told.new), encoding="utf-8")


if __name__ == "__main__":
    main()
