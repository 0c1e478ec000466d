"""`bert-mini`: BERT in small, by masked tokens alone, on the plays of Shakespeare.

Devlin et al. 2018 (arXiv 1810.04805); 4 layers of 256 dim are "mini" in Turc et al. 2019 (arXiv 1908.08962); here 128.
Departure: no dropout, which a model this small on a corpus this size does not need.
Read next: recipes/masked.py, models/encoder.py
"""

from __future__ import annotations

from cutaway.models.encoder import Encoder
from cutaway.models.masked_head import MaskedHead
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Plain
from cutaway.nn.initialisation import TruncatedNormal
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned
from cutaway.recipes.masked import HiddenToken
from cutaway.recipes.nano import DEMO
from cutaway.recipes.recipe import Recipe
from cutaway.recipes.stream import Stream
from cutaway.recipes.vocabulary import WordPieces
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.schedules import Linear


def bert(*, vocab: int, layers: int, heads: int, dim: int, hidden: int, length: int) -> Encoder:
    norm = LayerNorm(eps=1e-12)
    mixer = GroupedQuery(heads=heads, kv_heads=heads, head_dim=dim // heads, bias=True, out_bias=True)
    block = Block(mixer=mixer, feed=Plain(hidden=hidden, activation="gelu"), outside=norm)
    return Encoder(
        vocab=vocab,
        dim=dim,
        blocks=(block,) * layers,
        length=length,
        positions=Learned(length=length),
        kinds=2,
        embedding_norm=norm,
        head=MaskedHead(norm=norm),
    )


def bert_mini(
    corpus: str = DEMO,
    steps: int = 2000,
    layers: int = 4,
    heads: int = 4,
    dim: int = 128,
    length: int = 64,
    rows: int = 24,
    vocab: int = 2048,
    rate: float = 1e-3,
    seed: int = 1337,
) -> Recipe:
    return Recipe(
        about="masked words of Shakespeare, by a small BERT",
        task=HiddenToken(
            corpus=Stream(path=corpus, vocabulary=WordPieces(vocab=vocab), validation=0.05, template=None),
            model=bert(vocab=vocab, layers=layers, heads=heads, dim=dim, hidden=4 * dim, length=max(length, 128)),
            length=length,
            rows=rows,
            evaluated=8,
            initialisation=TruncatedNormal(),
        ),
        optimiser=AdamW(rate=rate, betas=(0.9, 0.98), decay=0.01),
        schedule=Linear(steps=steps, warmup=min(200, steps // 4)),
        steps=steps,
        evaluate=250,
        save=500,
        seed=seed,
    )
