"""A beginning that many requests share is read once, and lies in memory once.

RadixAttention (Zheng et al. 2023, arXiv 2312.07104), section 3; PagedAttention (Kwon et al. 2023, arXiv 2309.06180),
section 4.4, shared prefix. N requests with a beginning of P tokens and s of their own: N (P + s) tokens are read where
each reads all of it, P + N s where the pages are shared.
Read next: infer/pages.py, infer/block_tables.py
"""

from __future__ import annotations

import random

from cutaway.infer.decoding import Decoding
from cutaway.infer.engine import Engine
from cutaway.infer.request import Request, Sequence
from cutaway.infer.scheduler import Limits
from cutaway.lab.card import AtLeast, Card, Finding, Near
from cutaway.lab.cards.random_weights import drawn
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

REQUESTS, SHARED, OWN, ANSWER, PAGE, VOCAB = 16, 512, 20, 8, 16, 96
LIMITS = Limits(tokens=REQUESTS * (SHARED + OWN + ANSWER + PAGE), sequences=REQUESTS, budget=256, page=PAGE)
MIXER = GroupedQuery(heads=2, kv_heads=1, head_dim=16, rope=Rope(width=16))
BLOCK = Block(mixer=MIXER, feed=Gated(hidden=64), before=RMSNorm())
SPEC = Decoder(vocab=VOCAB, dim=32, blocks=(BLOCK,) * 2, length=1024, norm=RMSNorm())
DEVIATION = 0.3


def requests() -> list[Request]:
    draw = random.Random(0)
    shared = [draw.randrange(VOCAB) for _ in range(SHARED)]
    own = [[draw.randrange(VOCAB) for _ in range(OWN)] for _ in range(REQUESTS)]
    return [Request(prompt=(*shared, *ids), decoding=Decoding(max_tokens=ANSWER)) for ids in own]


def served(module: DecoderModel, asked: list[Request]) -> tuple[list[Sequence], int, int, list[int]]:
    """The answers, the tokens of prompts that passed the model, the most pages held at once, and for each request the
    tokens that had passed when it had its first."""
    engine = Engine(module, limits=LIMITS)
    sequences = [engine.submit(request) for request in asked]
    passed = pages = 0
    first: dict[Sequence, int] = {}
    run = engine.runner.run

    def counting(plan):
        nonlocal passed
        passed += sum(part.count for part in plan.parts)
        return run(plan)

    engine.runner.run = counting
    while not engine.idle:
        for written in engine.step():
            first.setdefault(written.sequence, passed)
        engine.check()
        pages = max(pages, engine.scheduler.tables.pools[0].held)
    read = passed - sum(len(one.answer) - 1 for one in sequences)  # an answer's last token is never read
    return sequences, read, pages, sorted(first.values())


def _compute() -> tuple[Finding, ...]:
    module, asked = drawn(SPEC, DEVIATION), requests()
    together, read, pages, first = served(module, asked)
    alone = [served(module, [one]) for one in asked]
    equal = sum(ours.answer == theirs[0].answer for ours, (theirs, *_) in zip(together, alone, strict=True))
    all_read, all_pages = sum(read for _, read, _, _ in alone), sum(pages for _, _, pages, _ in alone)
    half = REQUESTS // 2
    waited = (half + 1) * (SHARED + OWN)  # one after the other, each read whole
    return (
        Finding(what="tokens read, each alone", expected=Near(value=REQUESTS * (SHARED + OWN)), ours=all_read),
        Finding(what="tokens read, together", expected=Near(value=SHARED + REQUESTS * OWN), ours=read),
        Finding(what="answers that are the same", expected=Near(value=REQUESTS), ours=equal),
        Finding(what="different answers", expected=AtLeast(value=half), ours=len({one.answer for one in together})),
        Finding(what="pages held, times fewer", expected=AtLeast(value=6), ours=all_pages / pages),
        Finding(
            what="median wait for a first token, in tokens, times less",
            expected=AtLeast(value=4),
            ours=waited / first[half],
        ),
    )


CARD = Card(
    name="prefix-sharing",
    claim="16 requests that begin alike read the beginning once: P + N s tokens in the place of N (P + s).",
    source="Zheng et al. 2023 (arXiv 2312.07104), section 3; Kwon et al. 2023 (arXiv 2309.06180), section 4.4",
    computed="16 requests of 512 shared tokens and 20 of their own through the engine, and each through one of its own",
    tolerance="none for tokens and answers; pages and waiting in counts, with room for the last page of each",
    seconds=4,
    compute=_compute,
)
