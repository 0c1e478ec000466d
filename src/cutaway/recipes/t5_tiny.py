"""`t5-tiny`: T5 1.1 in small, which learns to write words backwards and dates the one right way.

Raffel et al. 2020 (arXiv 1910.10683): relative position bias, RMS norms before each part, gated feeds, no scale.
Read next: recipes/transduce.py, models/encoder_decoder.py
"""

from __future__ import annotations

from dataclasses import replace

from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.stack import Stack
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.relative_bias import RelativeBias
from cutaway.recipes.invented import Invented
from cutaway.recipes.recipe import Recipe
from cutaway.recipes.transduce import Transduce
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.optimisers.muon import Muon
from cutaway.train.schedules import Linear


def t5(*, vocab: int, layers: int, heads: int, dim: int, hidden: int) -> EncoderDecoder:
    norm, width = RMSNorm(), dim // heads
    mixer = GroupedQuery(heads=heads, kv_heads=heads, head_dim=width, scale=1.0)
    reads = Block(mixer=mixer, feed=Gated(hidden=hidden, activation="gelu_tanh"), before=norm)
    writes = replace(reads, cross=Cross(heads=heads, kv_heads=heads, head_dim=width, scale=1.0))
    encoder, decoder = (
        Stack(blocks=(block,) * layers, norm=norm, relative=RelativeBias(heads=heads, causal=block is writes))
        for block in (reads, writes)
    )
    return EncoderDecoder(vocab=vocab, dim=dim, encoder=encoder, decoder=decoder, ends=(1,), tied=False)


def t5_tiny(
    steps: int = 1500,
    layers: int = 2,
    heads: int = 4,
    dim: int = 64,
    hidden: int = 168,
    rows: int = 48,
    rate: float = 0.02,
    seed: int = 1337,
) -> Recipe:
    return Recipe(
        about="words backwards and dates the one right way, by a small T5",
        task=Transduce(
            corpus=Invented(),
            model=t5(vocab=64, layers=layers, heads=heads, dim=dim, hidden=hidden),
            rows=rows,
            longest=24,
        ),
        optimiser=Muon(rate=rate, rest=AdamW(rate=rate / 4, betas=(0.9, 0.99), decay=0.0)),
        schedule=Linear(steps=steps, warmup=min(100, steps // 4)),
        steps=steps,
        evaluate=250,
        save=500,
        seed=seed,
    )
