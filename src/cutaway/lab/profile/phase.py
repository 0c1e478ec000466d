"""Where the time of a step goes, measured: reading a prompt and writing answers apart, for so many streams at once.

Every second step is watched and the ones between are not, so that both meet the same machine: what watching costs is
the difference. Of each kind the quicker half is kept, whose mean is told: on a machine that others share, the slower
ones are theirs.
Read next: lab/profile/watch.py (how), lab/profile/work.py (what a part has to do at least)
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from cutaway.base.errors import BadInput
from cutaway.infer.decoding import Decoding
from cutaway.infer.engine import Engine
from cutaway.infer.language import Language
from cutaway.infer.request import Request
from cutaway.infer.scheduler import Limits
from cutaway.lab.profile.watch import PARTS, Watch, watching
from cutaway.lab.profile.work import Work, mean, work

BUDGET = Limits().budget
Shown = Callable[[Sequence[int], str], Iterable[int]]  # passes numbers on and says how far they are, as `track` does
READINGS = 8  # of a prompt, half of them watched
PATIENCE = 20.0  # seconds after which no further reading begins


@dataclass(frozen=True, kw_only=True)
class Line:
    """One part of a step: seconds, calls, what it had to do at least, and where it ran: nowhere, if it took no
    time of its own, as the cache of a list of kernels."""

    part: str
    seconds: float
    calls: float
    work: Work
    where: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """`seconds`: of a watched step; the lines' add up to it. `bare`: of a step that is not watched. `tokens`: those
    that a step takes in. `length`: of a sequence, at the middle of what was measured. `narrow`: what passes narrowed
    to. A step of reading is a whole prompt."""

    name: str
    streams: int
    tokens: int
    length: int
    steps: int
    seconds: float
    bare: float
    narrow: torch.dtype | None
    lines: tuple[Line, ...]

    @property
    def overhead(self) -> float:
        """By how much watching makes a step longer, as a share; below 0 where the machine hides it."""
        return self.seconds / self.bare - 1

    @property
    def rate(self) -> float:
        """Tokens a second, unwatched."""
        return self.tokens / self.bare

    @property
    def outside(self) -> float:
        """The share of an unwatched step that goes to the engine itself: neither the model nor choosing tokens."""
        return sum(line.seconds for line in self.lines if line.part == "engine") / self.bare


@dataclass(frozen=True, kw_only=True)
class Profile:
    """`dtype`: what the model computes in. `bandwidth`: bytes a second. `rates`: FLOPs a second by dtype."""

    model: str
    dtype: torch.dtype
    bandwidth: float
    rates: dict[torch.dtype, float]
    phases: tuple[Phase, ...]

    def rate(self, phase: Phase) -> float:
        """What the machine multiplies at most in the dtypes that a phase computes in."""
        return max(self.rates[one] for one in (self.dtype, phase.narrow) if one in self.rates)

    def least(self, phase: Phase, line: Line) -> float:
        """Seconds that the machine cannot do a part's work without."""
        return line.work.least(self.bandwidth, self.rate(phase))

    def share(self, phase: Phase, line: Line) -> float | None:
        """How much of the roof a part reaches, 0 to 1; None where it has no work that is counted."""
        least = self.least(phase, line)
        return least / line.seconds if least and line.seconds else None

    def reached(self, phase: Phase) -> float:
        """How much of the roof a whole unwatched step reaches."""
        return sum(self.least(phase, line) for line in phase.lines) / phase.bare


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step, or several that belong together: how long they took, unwatched or with the seconds of each part."""

    seconds: float
    parts: dict[str, float] | None = None
    calls: Counter[str] | None = None


def reading(language: Language, prompt: int) -> Phase:
    """One prompt of so many tokens, by itself."""
    engine = engine_for(language, prompt, 1, 1)
    steps, watch, begun = [], Watch(clock_of(language)), time.perf_counter()
    for number in range(READINGS + 1):  # the first one, which may unpack weights, is not counted
        engine.submit(request(language, prompt, 1, number))
        steps.append(step(engine, watch if number % 2 else None, whole=True))
        if number >= 2 and time.perf_counter() - begun > PATIENCE:
            break
    budget = engine.limits.budget
    ends = [*range(budget, prompt, budget), prompt]
    spans = [[(end - start, end)] for start, end in zip([0, *ends], ends, strict=False)]
    done = [work(engine.runner.module, one, int(one is spans[-1]), language.dtype) for one in spans]
    total = {part: Work(*(len(done) * n for n in (one.bytes, one.flops))) for part, one in mean(done).items()}
    return phase("prefill", steps[1:], watch, total, streams=1, tokens=prompt, length=prompt)


def writing(language: Language, prompt: int, new: int, streams: int, show: Shown = lambda items, what: items) -> Phase:
    """So many answers at once, each behind a prompt of its own, for so many steps."""
    room = room_for(prompt, new, streams)
    engine = engine_for(language, prompt, room, streams)
    writers = [engine.submit(request(language, prompt, room, number)) for number in range(streams)]
    for number in show(range(streams), "reading"):
        while sum(bool(one.answer) for one in writers) <= number:
            engine.step()
    watch = Watch(clock_of(language))
    steps = [step(engine, watch if number % 2 else None) for number in show(range(new), "writing")]
    spans = [(1, len(one.tokens) - new // 2) for one in writers]
    done = work(engine.runner.module, spans, streams, language.dtype)
    length = round(sum(length for _, length in spans) / streams)
    return phase("decode", steps, watch, done, streams=streams, tokens=streams, length=length)


def room_for(prompt: int, new: int, streams: int) -> int:
    """Tokens that an answer may have: those that are measured, and those that it has by the time that all are read."""
    return new + 2 + streams * (-(-prompt // BUDGET) + 1)


def engine_for(language: Language, prompt: int, new: int, streams: int) -> Engine:
    """An engine with room for so many streams. Raises BadInput where the model has none for such a text."""
    module = language._decoder()
    if prompt + new > module.spec.length:
        said = f"{prompt} tokens and {new} new ones are more than the model's context of {module.spec.length}"
        raise BadInput(said, field="--prompt, --new")
    page = Limits().page
    room = streams * (-(-(prompt + new) // page) + 1) * page
    limits = Limits(tokens=room, sequences=streams, budget=max(BUDGET, streams + 1))
    return Engine(module, limits=limits, forms=language.forms)


def request(language: Language, prompt: int, new: int, seed: int) -> Request:
    """Ids at random, so that no two prompts share a page, and no end before the last token."""
    draw = random.Random(seed)
    ids = tuple(draw.randrange(language.spec.vocab) for _ in range(prompt))
    return Request(prompt=ids, decoding=Decoding(max_tokens=new))


def step(engine: Engine, watch: Watch | None, *, whole: bool = False) -> Step:
    """One step of the engine, or all until it is idle; watched, or not."""
    if watch is None:
        start = time.perf_counter()
        engine.step()
        while whole and not engine.idle:
            engine.step()
        return Step(seconds=time.perf_counter() - start)
    clock = watch.clock
    before, calls, whole_before = dict(clock.seconds), Counter(clock.calls), clock.whole
    with watching(engine, watch):
        clock.start("engine")
        try:
            engine.step()
            while whole and not engine.idle:
                clock.become("engine")
                engine.step()
        finally:
            clock.stop()
    parts = {part: seconds - before.get(part, 0.0) for part, seconds in clock.seconds.items()}
    return Step(seconds=clock.whole - whole_before, parts=parts, calls=clock.calls - calls)


def phase(name: str, steps: Sequence[Step], watch: Watch, done: dict[str, Work], **told: int) -> Phase:
    """What several steps come to."""
    bare = quicker([one for one in steps if one.parts is None])
    watched = quicker([one for one in steps if one.parts is not None])
    if not bare or not watched:
        raise BadInput("too few steps: a watched one and another are needed", field="--new")
    lines = []
    for part in PARTS:
        seconds = sum((one.parts or {}).get(part, 0.0) for one in watched) / len(watched)
        calls = sum((one.calls or Counter())[part] for one in watched) / len(watched)
        lacking = "python" if part == "engine" else "torch"
        where = tuple(sorted(watch.where.get(part, ()))) or ((lacking,) if seconds else ())
        lines.append(Line(part=part, seconds=seconds, calls=calls, work=done.get(part, Work()), where=where))
    return Phase(
        name=name,
        steps=len(steps),
        seconds=sum(one.seconds for one in watched) / len(watched),
        bare=sum(one.seconds for one in bare) / len(bare),
        narrow=watch.narrow,
        lines=tuple(lines),
        **told,
    )


def quicker(steps: Sequence[Step]) -> list[Step]:
    """The half that took less time, of one the one."""
    return sorted(steps, key=lambda one: one.seconds)[: -(-len(steps) // 2)]


def clock_of(language: Language) -> Callable[[], float]:
    """The time, once the device has done what it was told."""
    if language.device.type == "cpu":
        return time.perf_counter
    wait = getattr(torch, language.device.type).synchronize

    def now() -> float:
        wait()
        return time.perf_counter()

    return now
