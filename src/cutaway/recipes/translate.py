"""`translate`: the original Transformer, in small, from classical Chinese to modern.

Vaswani et al. 2017 (arXiv 1706.03762): sinusoidal positions, norms behind each part, one table for source, target and
head, embeddings times sqrt(dim), dropout 0.1, label smoothing 0.1, a rate that rises and then falls as 1 / sqrt(step).
Departure: all sines stand before all cosines, as in Marian, so that other programs open a finished run as one.
Read next: recipes/transduce.py, models/encoder_decoder.py
"""

from __future__ import annotations

from dataclasses import replace

from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.stack import Stack
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Plain
from cutaway.nn.initialisation import Xavier
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Sinusoidal
from cutaway.recipes.recipe import Recipe
from cutaway.recipes.sheet import Sheet
from cutaway.recipes.transduce import Transduce
from cutaway.train.optimisers.adam import Adam
from cutaway.train.schedules import InverseSquareRoot


def transformer(*, vocab: int, layers: int, heads: int, dim: int, hidden: int, dropout: float) -> EncoderDecoder:
    norm, width, length = LayerNorm(), dim // heads, Sinusoidal(length=512, interleaved=False)
    mixer = GroupedQuery(heads=heads, kv_heads=heads, head_dim=width, bias=True, out_bias=True)
    feed = Plain(hidden=hidden, activation="relu")
    reads = Block(mixer=mixer, feed=feed, outside=norm, dropout=dropout)
    cross = Cross(heads=heads, kv_heads=heads, head_dim=width, bias=True, out_bias=True)
    return EncoderDecoder(
        vocab=vocab,
        dim=dim,
        encoder=Stack(blocks=(reads,) * layers, positions=length),
        decoder=Stack(blocks=(replace(reads, cross=cross),) * layers, positions=length),
        ends=(1,),
        embedding_scale=dim**0.5,
        dropout=dropout,
    )


def translate(
    corpus: str = "../shared/data/zh_classical_modern/pairs.tsv.gz",
    source: int = 2,
    target: int = 3,
    steps: int = 1500,
    layers: int = 2,
    heads: int = 4,
    dim: int = 128,
    hidden: int = 512,
    rows: int = 32,
    rate: float = 1.0,
    seed: int = 1337,
) -> Recipe:
    """`corpus`: pairs as lines with tabs; `source`, `target`: the numbers of their columns."""
    warmup = max(1, min(400, steps // 4))
    return Recipe(
        about="classical Chinese into modern, by the original Transformer",
        task=Transduce(
            corpus=Sheet(path=corpus, source=source, target=target, longest=60),
            model=transformer(vocab=5000, layers=layers, heads=heads, dim=dim, hidden=hidden, dropout=0.1),
            rows=rows,
            smoothing=0.1,
            exact=20,
            initialisation=Xavier(),
        ),
        optimiser=Adam(rate=rate, betas=(0.9, 0.98), eps=1e-9),
        schedule=InverseSquareRoot.of_paper(dim, warmup),
        steps=steps,
        evaluate=250,
        save=500,
        seed=seed,
    )
