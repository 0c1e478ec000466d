"""`gpt2-124m`: GPT-2's smallest, as it was, for 8 GPUs; also what one wants to know before: its memory and steps.

Radford et al. 2019; rate, batch and schedule as Brown et al. 2020 (arXiv 2005.14165), table 2.1, for 125 million:
6e-4, half a million tokens, cosine to a tenth. 19,073 steps are 10 billion tokens.
Read next: recipes/language.py, recipes/shelved.py
"""

from __future__ import annotations

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Plain
from cutaway.nn.initialisation import ScaledResidual
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned
from cutaway.recipes.language import NextToken
from cutaway.recipes.recipe import Recipe, Sampling
from cutaway.recipes.shelved import Shelved
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.schedules import Cosine

TOKENS = 524_288  # of a step, over all processes


def gpt2(length: int = 1024) -> Decoder:
    """12 layers, 12 heads, 768 dim: 124,439,808 parameters."""
    mixer = GroupedQuery(heads=12, kv_heads=12, head_dim=64, bias=True, out_bias=True)
    norm = LayerNorm()
    block = Block(mixer=mixer, feed=Plain(hidden=3072), before=norm)
    return Decoder(
        vocab=50257, dim=768, blocks=(block,) * 12, length=length, norm=norm, positions=Learned(length=length)
    )


def gpt2_124m(
    corpus: str = "prepared",
    steps: int = 19_073,
    rows: int = 16,
    length: int = 1024,
    processes: int = 8,
    rate: float = 6e-4,
    seed: int = 1337,
) -> Recipe:
    """`corpus`: the folder that `cutaway data prepare` wrote. `rows`: sequences of a batch on each process."""
    return Recipe(
        about="GPT-2's smallest, on 10 billion tokens, by 8 GPUs",
        task=NextToken(
            corpus=Shelved(path=corpus),
            model=gpt2(),
            length=length,
            rows=rows,
            evaluated=20,
            initialisation=ScaledResidual(),
            sampling=Sampling(prompts=("Once upon a time",)),
        ),
        optimiser=AdamW(rate=rate, betas=(0.9, 0.95), decay=0.1),
        schedule=Cosine(steps=steps, warmup=min(715, steps // 4)),
        steps=steps,
        processes=processes,
        accumulate=max(1, TOKENS // (rows * length * processes)),
        precision="bfloat16",
        seed=seed,
    )
