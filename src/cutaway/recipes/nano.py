"""`nano`: from raw text to a model that writes words, in about three minutes on two cores.

Shakespeare's plays, a byte-pair vocabulary of 2,048 trained on them, and a Llama with QK-norm (the shape of Qwen 3),
moved by Muon.   Read next: recipes/language.py, cli/train.py
"""

from __future__ import annotations

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.recipes.language import NextToken
from cutaway.recipes.recipe import Recipe, Sampling
from cutaway.recipes.shelved import corpus_at
from cutaway.recipes.vocabulary import BytePairs
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.optimisers.muon import Muon
from cutaway.train.schedules import Linear

DEMO = "shakespeare"  # the corpus that any machine gets
DIALOGUE = (  # as the plays print it: you are Romeo, the model is Juliet
    "{% for message in messages %}**{{ 'ROMEO' if message.role == 'user' else 'JULIET' }}**  \n{{ message.content }}"
    "\n\n{% endfor %}{% if add_generation_prompt %}**JULIET**  \n{% endif %}"
)


def small(*, vocab: int, layers: int, heads: int, dim: int, hidden: int, length: int) -> Decoder:
    """A decoder of the shape of Qwen 3, which other programs load."""
    norm, width = RMSNorm(), dim // heads
    mixer = GroupedQuery(heads=heads, kv_heads=heads, head_dim=width, rope=Rope(width=width), head_norm=norm)
    block = Block(mixer=mixer, feed=Gated(hidden=hidden), before=norm)
    return Decoder(vocab=vocab, dim=dim, blocks=(block,) * layers, length=length, norm=norm)


def nano(
    corpus: str = DEMO,
    steps: int = 600,
    layers: int = 4,
    heads: int = 4,
    dim: int = 128,
    length: int = 128,
    rows: int = 16,
    vocab: int = 2048,
    rate: float = 0.02,
    seed: int = 1337,
) -> Recipe:
    """`corpus`: a file, a folder of texts, a corpus by its name, or a folder that `cutaway data prepare` wrote."""
    return Recipe(
        about="Shakespeare's plays, from raw text to a model that writes words",
        task=NextToken(
            corpus=corpus_at(corpus, vocabulary=BytePairs(vocab=vocab), validation=0.05, template=DIALOGUE),
            model=small(
                vocab=vocab, layers=layers, heads=heads, dim=dim, hidden=8 * dim // 3 // 8 * 8, length=max(length, 256)
            ),
            length=length,
            rows=rows,
            evaluated=40,
            words=400,
            sampling=Sampling(prompts=("**ROMEO**  \n", "To be, or not"), tokens=120),
        ),
        optimiser=Muon(rate=rate, rest=AdamW(rate=rate / 4, betas=(0.9, 0.99), decay=0.0)),
        schedule=Linear(steps=steps, warmup=min(50, steps // 4)),
        steps=steps,
        evaluate=250,
        save=250,
        seed=seed,
    )
