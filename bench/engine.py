"""The engine alone, without HTTP: tokens/s of 1, 16 and 32 requests at once, and what of a step is not tensor code.

    python bench/engine.py [--model smollm2-135m] [--streams 1,16,32] [--prompt 128] [--new 128] [--rounds 3] [--ties 0]
        [--form fast,kernels,kernels-int8]

Every round serves every number of streams once, in every form (how weights are multiplied: on torch, on our kernels,
on them with int8 activations); figures are medians of rounds. Tokens/s are new ones over the whole
time, prompts included; "stepping" counts the steps in which all streams write. Outside: planning, committing, lists
turned into tensors, and all else of a step but the model's pass and what is done with its logits.
`--ties N` asks N prompts of many lengths, a few at each step, greedily, and reads each answer again alone: it counts
where texts part, by how much the best logit led there, alone, and how far logits differ at all places (the spread of
infer/ties.py). It fails where a lead is not below NEAR. The same tokens come in on both sides, so that nothing adds up.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
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
from cutaway.infer.ties import NEAR, lead, spread
from cutaway.models.decoder import DecoderModel
from cutaway.ops.cpu.list import Operations
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
        self.inside, self._within = 0.0, False
        self.module, self._run_list = engine.runner.module, Operations.run
        Operations.run = self._timed(Operations.run)  # what kernels do of a pass, in whatever order
        engine.runner.module.forward = self._timed(engine.runner.module.forward)  # type: ignore[method-assign]
        engine._choose = self._timed(engine._choose)  # type: ignore[method-assign]
        for name in ("commit", "take"):  # of choosing, these are the scheduler's
            setattr(engine.scheduler, name, self._timed(getattr(engine.scheduler, name), -1))

    def stop(self) -> None:
        """The module outlives its engine, and so do lists."""
        del self.module.forward
        Operations.run = self._run_list

    def _timed(self, function: Callable, sign: int = 1) -> Callable:
        def timed(*told: Any, **named: Any) -> Any:
            if sign > 0 and self._within:  # tensor code that tensor code calls is in its caller's time
                return function(*told, **named)
            within, self._within = self._within, sign > 0
            start = time.thread_time()
            try:
                return function(*told, **named)
            finally:
                self.inside += sign * (time.thread_time() - start)
                self._within = within

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


@dataclass(kw_only=True)
class Ties:
    """`leads`: of the best logit, alone, where the engine took another token; `spreads`: of all tokens."""

    leads: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        tokens, ordered = len(self.spreads), sorted(self.spreads)
        told = f"another token {len(self.leads)} times in {tokens}"
        if self.leads:
            told += (
                f", where the best led by {statistics.median(self.leads):.3f} in the median, {max(self.leads):.3f} at"
            )
            told += " most"
        middle, most = ordered[tokens // 2], ordered[-1]
        return f"Near ties: {told}; logits spread by {middle:.3f} in the median, {most:.3f} at most; bound {NEAR}."


def ties(language: Language, count: int, prompt: int, new: int) -> Ties:
    """Twenty-four answers at a time, of prompts up to twice as long, a few begun at each step: all sizes of a pass."""
    assert isinstance(language.module, DecoderModel)
    found, draw = Ties(), random.Random(99)
    for start in range(0, count, 24):
        several = prompts(min(24, count - start), 2 * prompt, 99 + start)
        coming = [
            Request(prompt=ids[: draw.randint(1, 2 * prompt)], decoding=Decoding(max_tokens=new)) for ids in several
        ]
        limits = Limits(tokens=24 * (2 * prompt + new + 16), sequences=24, budget=512)
        engine = Engine(language.module, limits=limits, forms=language.forms)
        said, sequences = _listened(engine), []
        while coming or not engine.idle:
            sequences += [engine.submit(coming.pop()) for _ in range(min(len(coming), draw.choice((0, 0, 1, 2, 4))))]
            engine.step()
        for one in sequences:
            held = language.continuation()
            logits_V = held.feed(held.rewind(one.request.prompt, room=len(one.request.prompt) + new))
            for place, token in enumerate(one.answer):
                found.spreads.append(spread(logits_V, said[one.number, place]))
                found.leads += [ahead] if (ahead := lead(logits_V, token)) > 0 else []
                logits_V = held.feed([token])
    return found


def _listened(engine: Engine) -> dict[tuple[int, int], torch.Tensor]:
    """The logits (V,) behind which an engine will choose a token, by the sequence's number and the token's place."""
    said: dict[tuple[int, int], torch.Tensor] = {}
    choose = engine._choose

    def chosen(plan: Any, logits_XV: torch.Tensor) -> Any:
        for part, logits_V in zip((part for part in plan.parts if part.samples), logits_XV, strict=False):
            one = part.sequence
            said[one.number, len(one.tokens) - len(one.request.prompt)] = logits_V.clone()
        return choose(plan, logits_XV)

    engine._choose = chosen  # type: ignore[method-assign]
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--streams", default="1,16,32")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--form", default="fast", help=f"how weights are multiplied: some of {', '.join(NAMED)}")
    parser.add_argument("--ties", type=int, default=0, help="hold so many texts against themselves alone")
    parser.add_argument("--out", type=Path, help="write the table here (Markdown)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    os.environ["CUTAWAY_KERNELS"] = "on"  # the compiler is waited for
    unknown = next((form for form in arguments.form.split(",") if form not in NAMED), None)
    if unknown is not None:
        raise SystemExit(f'no form "{unknown}": {", ".join(NAMED)}')
    language = cutaway.load(arguments.model)
    assert isinstance(language, Language)
    counts = [int(count) for count in arguments.streams.split(",")]
    told = arguments.prompt, arguments.new
    forms = arguments.form.split(",")
    for form in forms:
        serve(language, 2, min(32, arguments.prompt), 4, 0, form)  # the first run touches pages and plans
    runs: dict[tuple[str, int], list[Run]] = {(form, count): [] for form in forms for count in counts}
    for index in range(arguments.rounds):
        for count in counts:
            for form in forms[index % len(forms) :] + forms[: index % len(forms)]:
                runs[form, count].append(serve(language, count, *told, index, form))
        print(f"round {index + 1} of {arguments.rounds}", file=sys.stderr)
    lines = [
        f"# The engine, {date.today()}",
        "",
        f"`python bench/engine.py {' '.join(sys.argv[1:])}`; {look().processor}, {arguments.threads} threads, "
        f"{platform.system()}; Python {platform.python_version()}, torch {torch.__version__}.",
        f"{arguments.model}, {told[0]} tokens in, {told[1]} out; medians of {arguments.rounds} rounds.",
        "",
        "| form | streams | tokens/s | tokens/s stepping, a second of one thread | ms of a step | outside tensors |",
        "|---|---|---|---|---|---|",
    ]
    for (form, count), several in runs.items():
        steps = [second for run in several for second in run.steps]
        outside = sum(steps) - sum(sum(run.tensors) for run in several)
        rate = statistics.median(run.tokens / run.wall for run in several)
        middle = statistics.median(steps)
        cells = [f"{rate:.1f}", f"{count / middle:.0f}", f"{1e3 * middle:.1f}", f"{100 * outside / sum(steps):.1f}%"]
        lines.append(f"| {form} | {count} | " + " | ".join(cells) + " |")
    found = ties(language, arguments.ties, *told) if arguments.ties else Ties()
    lines += ["", str(found)] if arguments.ties else []
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    return 1 if max(found.leads, default=0.0) >= NEAR else 0


if __name__ == "__main__":
    sys.exit(main())
