"""`shakespeare-char`: nanoGPT's setting for a CPU, with what has been learned about training since.

github.com/karpathy/nanoGPT, README: 4 layers, 4 heads, 128 dim, 64 characters, batches of 12, 2,000 steps of AdamW.
Here: as many weights at most, as many tokens a step. Rotary positions, RMS norms, QK-norm, gated feeds; Muon; every
piece of the corpus once before any comes again.   Read next: recipes/nano.py, bench/train.py
"""

from __future__ import annotations

from cutaway.recipes.language import NextToken
from cutaway.recipes.nano import DEMO, small
from cutaway.recipes.recipe import Recipe, Sampling
from cutaway.recipes.stream import Stream
from cutaway.recipes.vocabulary import Characters
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.optimisers.muon import Muon
from cutaway.train.schedules import Linear


def shakespeare_char(
    corpus: str = DEMO,
    steps: int = 2000,
    layers: int = 4,
    heads: int = 4,
    dim: int = 128,
    hidden: int = 336,
    length: int = 64,
    rows: int = 12,
    rate: float = 0.02,
    seed: int = 1337,
    until: float | None = None,
) -> Recipe:
    return Recipe(
        about="characters of Shakespeare in nanoGPT's setting for a CPU",
        task=NextToken(
            corpus=Stream(path=corpus, vocabulary=Characters()),
            model=small(vocab=65, layers=layers, heads=heads, dim=dim, hidden=hidden, length=length),
            length=length,
            rows=rows,
            sampling=Sampling(tokens=300),
        ),
        optimiser=Muon(rate=rate, rest=AdamW(rate=rate / 4, betas=(0.9, 0.99), decay=0.0)),
        schedule=Linear(steps=steps, warmup=min(50, steps // 4)),
        steps=steps,
        evaluate=250,
        save=500,
        until=until,
        seed=seed,
    )
