"""How much of the memory for keys and values holds none: room kept for the longest text, and pages of 16 tokens.

PagedAttention (Kwon et al. 2023, arXiv 2309.06180), figure 2: where a text's whole room is kept from the start,
20.4% to 38.2% of that memory holds tokens; in pages more than 96% does. The trace here has the mean lengths of
ShareGPT's there (161 tokens in, 338 out) and a long tail. The engine's own scheduler and tables run it, with no model.
Read next: infer/scheduler.py, infer/block_tables.py
"""

from __future__ import annotations

import math
import random

from cutaway.infer.block_tables import BlockTables, Keep
from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Request
from cutaway.infer.scheduler import Limits, Scheduler
from cutaway.lab.card import AtLeast, AtMost, Card, Finding, Near

LENGTH, PAGE, REQUESTS = 2048, 16, 400
MEANS = (161, 338)  # tokens of a prompt, and of an answer
SPREAD = 1.0  # of the logarithm of both
LIMITS = Limits(tokens=16 * LENGTH, sequences=64, budget=1024, page=PAGE)


def trace(seed: int, means: tuple[int, int] = MEANS) -> list[Request]:
    """Requests of log-normal lengths that fit the longest text; no two begin alike."""
    draw, made = random.Random(seed), []
    while len(made) < REQUESTS:
        prompt, answer = (round(draw.lognormvariate(math.log(mean) - SPREAD**2 / 2, SPREAD)) for mean in means)
        if prompt >= 1 and answer >= 1 and prompt + answer <= LENGTH:
            ids = (len(made), *(draw.randrange(1000) for _ in range(prompt - 1)))
            made.append(Request(prompt=ids, decoding=Decoding(max_tokens=answer)))
    return made


def wasted(requests: list[Request], page: int = PAGE) -> dict[str, float]:
    """The share of the memory taken that holds no token, over all steps: in pages, with room for the longest text from
    the start, and with room for the next power of two above what each becomes, as if that were known."""
    limits = Limits(tokens=LIMITS.tokens, sequences=LIMITS.sequences, budget=LIMITS.budget, page=page)
    tables = BlockTables([Keep()], [limits.tokens // page], page=page)
    scheduler = Scheduler(tables, limits, length=LENGTH)
    for request in requests:
        scheduler.submit(request)
    held, taken = 0, {"pages": 0, "longest": 0, "power of two": 0}
    while not scheduler.idle:
        plan = scheduler.plan()
        for sequences in scheduler.commit(plan):
            for sequence in sequences:
                scheduler.take(sequence, 0)
        running = scheduler.running
        held += sum(tables.length(one.number) for one in running)
        taken["pages"] += sum(len(tables.rows(one.number, 0)) for one in running) * page
        taken["longest"] += LENGTH * len(running)
        taken["power of two"] += sum(1 << (one.limit - 1).bit_length() for one in running)
    scheduler.check()
    return {name: 1 - held / count for name, count in taken.items()}


def _compute() -> tuple[Finding, ...]:
    requests = trace(0)
    found = wasted(requests)
    mean = sum(len(one.prompt) + one.decoding.max_tokens for one in requests) / REQUESTS
    paged = found["pages"]
    return (
        Finding(what="mean length of the trace", expected=Near(value=sum(MEANS), tolerance=0.1), ours=mean),
        Finding(what="room for the longest: % empty", expected=AtLeast(value=60), ours=100 * found["longest"]),
        Finding(what="the same, at most", expected=AtMost(value=80), ours=100 * found["longest"]),
        Finding(what="room for a power of two: % empty", expected=AtLeast(value=25), ours=100 * found["power of two"]),
        Finding(what="pages of 16: % empty", expected=AtMost(value=4), ours=100 * paged),
        Finding(
            what="pages of 128, times as much empty",
            expected=AtLeast(value=4),
            ours=wasted(requests, 128)["pages"] / paged,
        ),
    )


CARD = Card(
    name="paged-waste",
    claim="Of memory kept for each text's greatest length 60% to 80% is empty, of pages of 16 tokens less than 4%.",
    source="Kwon et al. 2023 (arXiv 2309.06180), figure 2 and section 1",
    computed="400 requests of mixed lengths through the scheduler and its tables, counted at every step",
    tolerance="bounds: how much is empty depends on the trace, whose lengths are drawn by ShareGPT's means",
    seconds=6,
    compute=_compute,
)
