"""The engine alone, without HTTP: tokens/s of 1, 16 and 32 requests at once, and what of a step is not tensor code.

    python bench/engine.py [--model smollm2-135m] [--streams 1,16,32] [--prompt 128] [--new 128] [--rounds 3] [--ties 0]

Every round serves every number of streams once; figures are medians of rounds. Tokens/s are new ones over the whole
time, prompts included; "stepping" counts the steps in which all streams write. Outside: planning, committing, lists
turned into tensors, and all else of a step but the model's pass and what is done with its logits.
`--ties N` asks N prompts together and alone, greedily, on the fast path, and counts where the texts part: at each such
place it tells by how much the best logit led the second there, alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch

import cutaway
from cutaway.cli.machine import look
from cutaway.infer.decoding import Decoding
from cutaway.infer.engine import Engine
from cutaway.infer.language import Language
from cutaway.infer.request import Request
from cutaway.infer.scheduler import Limits
from cutaway.models.decoder import DecoderModel
from cutaway.ops.forms import NAMED

CPU = time.process_time


@dataclass(kw_only=True)
class Run:
    """Seconds of wall time and of the processors; of the steps in which all streams wrote, those of each and those of
    them that were spent in tensor code (processor time)."""

    wall: float = 0.0
    cpu: float = 0.0
    tokens: int = 0
    steps: list[float] = field(default_factory=list)
    tensors: list[float] = field(default_factory=list)


class Clock:
    """Adds up the processor time inside of functions of an engine."""

    def __init__(self, engine: Engine):
        self.inside = 0.0
        self.module = engine.runner.module
        engine.runner.module.forward = self._timed(engine.runner.module.forward)  # type: ignore[method-assign]
        engine._choose = self._timed(engine._choose)  # type: ignore[method-assign]
        for name in ("commit", "take"):  # of choosing, these are the scheduler's
            setattr(engine.scheduler, name, self._timed(getattr(engine.scheduler, name), -1))

    def stop(self) -> None:
        """The module outlives its engine."""
        del self.module.forward

    def _timed(self, function: Callable, sign: int = 1) -> Callable:
        def timed(*told: Any, **named: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*told, **named)
            finally:
                self.inside += sign * (time.thread_time() - start)

        return timed


def prompts(count: int, length: int, seed: int) -> list[tuple[int, ...]]:
    """Random ids: nothing is shared."""
    make = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(1000, 40_000, (length,), generator=make).tolist()) for _ in range(count)]


def serve(language: Language, streams: int, prompt: int, new: int, seed: int, form: str) -> Run:
    assert isinstance(language.module, DecoderModel)
    limits = Limits(tokens=streams * (prompt + new + 16), sequences=max(streams, 2), budget=512)
    engine = Engine(language.module, limits=limits, forms=NAMED[form])
    clock, run = Clock(engine), Run()
    for ids in prompts(streams, prompt, seed):
        engine.submit(Request(prompt=ids, decoding=Decoding(max_tokens=new)))
    wall, cpu = time.perf_counter(), CPU()
    while not engine.idle:
        before, inside = time.thread_time(), clock.inside
        written = len(engine.step())
        if written == streams:
            run.steps.append(time.thread_time() - before)
            run.tensors.append(clock.inside - inside)
        run.tokens += written
    run.wall, run.cpu = time.perf_counter() - wall, CPU() - cpu
    clock.stop()
    return run


def ties(language: Language, count: int, prompt: int, new: int) -> str:
    """Where texts part: how often, and by how much the best logit led."""
    asked = [Request(prompt=ids, decoding=Decoding(max_tokens=new)) for ids in prompts(count, prompt, 99)]
    assert isinstance(language.module, DecoderModel)
    limits = Limits(tokens=count * (prompt + new + 16), sequences=min(count, 32), budget=512)
    together = [one.answer for one in Engine(language.module, limits=limits, forms=language.forms).answer(asked)]
    leads, tokens = [], 0
    for request, answer in zip(asked, together, strict=True):
        alone = language.generate(list(request.prompt), max_tokens=new).tokens
        parted = next((at for at, pair in enumerate(zip(alone, answer, strict=False)) if len({*pair}) > 1), None)
        tokens += len(alone) if parted is None else parted + 1
        if parted is not None:
            held = language.continuation()
            logits_V = held.feed(held.rewind(request.prompt, room=prompt + new))
            for token in alone[:parted]:
                logits_V = held.feed([token])
            best = logits_V.float().topk(2).values
            leads.append(float(best[0] - best[1]))
    told = f", where the best logit led by {statistics.median(leads):.3f} in the median, {max(leads):.3f} at most"
    return (
        f"{len(leads)} of {count} texts parted, once in {tokens // max(len(leads), 1)} tokens{told if leads else ''}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--streams", default="1,16,32")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--form", default="fast", choices=sorted(NAMED), help="how weights are multiplied")
    parser.add_argument("--ties", type=int, default=0, help="compare so many texts with themselves alone")
    parser.add_argument("--out", type=Path, help="write the table here (Markdown)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    language = cutaway.load(arguments.model)
    assert isinstance(language, Language)
    counts = [int(count) for count in arguments.streams.split(",")]
    told = arguments.prompt, arguments.new
    serve(language, 2, min(32, arguments.prompt), 4, 0, arguments.form)  # the first run touches pages and plans
    runs: dict[int, list[Run]] = {count: [] for count in counts}
    for index in range(arguments.rounds):
        for count in counts:
            runs[count].append(serve(language, count, *told, index, arguments.form))
        print(f"round {index + 1} of {arguments.rounds}", file=sys.stderr)
    lines = [
        f"# The engine, {date.today()}",
        "",
        f"`python bench/engine.py {' '.join(sys.argv[1:])}`; {look().processor}, {arguments.threads} threads, "
        f"{platform.system()}; Python {platform.python_version()}, torch {torch.__version__}.",
        f"{arguments.model}, {told[0]} tokens in, {told[1]} out, form {arguments.form}; medians of {arguments.rounds} "
        "rounds.",
        "",
        "| streams | tokens/s | tokens/s stepping, a second of one thread | ms of a step | outside tensors |",
        "|---|---|---|---|---|",
    ]
    for count, several in runs.items():
        steps = [second for run in several for second in run.steps]
        outside = sum(steps) - sum(sum(run.tensors) for run in several)
        rate = statistics.median(run.tokens / run.wall for run in several)
        middle = statistics.median(steps)
        cells = [f"{rate:.1f}", f"{count / middle:.0f}", f"{1e3 * middle:.1f}", f"{100 * outside / sum(steps):.1f}%"]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    if arguments.ties:
        lines += ["", ties(language, arguments.ties, *told)]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
