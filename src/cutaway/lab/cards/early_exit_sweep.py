"""A model says little before its last blocks unless it was trained to: what an exit behind each of them costs.

LayerSkip (Elhoushi et al. 2024, arXiv 2404.16710), section 3 and figure 2: a model trained as usual makes up its mind
late, one trained with a loss behind every block and with blocks left out says in the middle what it says at the end.
First SmolLM2-135M, trained as usual, over a text: agreement with itself and perplexity behind 20, 27 and all 30 blocks.
Then two small decoders on an invented language (lab/cards/alibi_extrapolation.py), one trained by its last block alone,
one by the mean of the losses behind all: who leaves half-way, and what a threshold of 0.8 saves.
Departure: no blocks are left out while training, and all exits weigh alike; four layers need neither.
B batch · T position · N tokens, flat · V vocabulary.   Read next: lab/exits.py, infer/early_exit.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.infer.early_exit import Confident, Leaving
from cutaway.infer.language import Language
from cutaway.infer.load import load
from cutaway.lab.card import AtLeast, AtMost, Card, Finding
from cutaway.lab.cards.alibi_extrapolation import HEADS, ROWS, VOCAB, text
from cutaway.lab.data_sets import shelved
from cutaway.lab.exits import sweep
from cutaway.lab.explain.table import EXPLANATIONS
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned
from cutaway.train.optimisers.adam import Adam
from cutaway.train.schedules import Linear, Scheduled

DIM, BLOCKS, LENGTH, STEPS, TOKENS, SURE = 64, 4, 32, 300, 160, 0.8


def losses(module: DecoderModel, ids_BT: Tensor, every: bool) -> Tensor:
    """The mean loss behind the last block, or behind each block in the mean, in nats."""
    context = Context.of((ids_BT.shape[1],) * len(ids_BT), want=frozenset({"residual"}))
    _, report = module.hidden(ids_BT.flatten(), context)
    found = []
    for block in range(BLOCKS) if every else (BLOCKS - 1,):
        said = module.logits(report[f"blocks.{block}.residual_ND"], context).unflatten(0, tuple(ids_BT.shape))[:, :-1]
        found.append(F.cross_entropy(said.transpose(1, 2), ids_BT[:, 1:]))
    return torch.stack(found).mean()


def trained(every: bool, steps: int = STEPS) -> Language:
    """A small decoder of the invented language, trained by its last block or by all."""
    block = Block(
        mixer=GroupedQuery(heads=HEADS, kv_heads=HEADS, head_dim=DIM // HEADS),
        feed=Plain(hidden=4 * DIM, activation="relu", bias=True),
        before=LayerNorm(),
    )
    spec = Decoder(
        vocab=VOCAB,
        dim=DIM,
        blocks=(block,) * BLOCKS,
        length=LENGTH,
        norm=LayerNorm(),
        positions=Learned(length=LENGTH),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, make = spec.build(), torch.Generator().manual_seed(1)
        optimiser = Scheduled(Adam(rate=3e-3).build(module), Linear(warmup=min(20, steps // 2), steps=steps, floor=0.1))
        for _ in range(steps):
            loss = losses(module, text(ROWS, LENGTH, make), every)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return Language(module)


def halfway(language: Language, rows: int = 12) -> float:
    """How often the likeliest token behind half of the blocks is the last one's, over texts that are new."""
    made = text(rows, LENGTH, torch.Generator().manual_seed(9)).tolist()
    return sum(sweep(language, ids)[0][BLOCKS // 2 - 1].agreement for ids in made) / rows


def saved(language: Language, rows: int = 4) -> float:
    """All blocks over those that tokens pass, where they leave at SURE while the model writes."""
    depths = []
    for ids in text(rows, LENGTH // 2, torch.Generator().manual_seed(8)).tolist():
        held = language.continuation(Confident(after=(2, 3), threshold=SURE))
        assert isinstance(held, Leaving)
        language.generate(ids, held=held, max_tokens=LENGTH // 2)
        depths += held.left
    return BLOCKS * len(depths) / sum(depths)


def _compute() -> tuple[Finding, ...]:
    big = load(shelved("smollm2-135m"))
    assert isinstance(big, Language)
    fixed, leaving = sweep(big, big.encode(" ".join(one.what for one in EXPLANATIONS.values()))[:TOKENS], (0.9,))
    usual, early = trained(every=False), trained(every=True)
    return (
        Finding(what="SmolLM2 behind 20 of 30 blocks: agreement", expected=AtMost(value=0.3), ours=fixed[19].agreement),
        Finding(what="the same behind 27", expected=AtMost(value=0.7), ours=fixed[26].agreement),
        Finding(
            what="behind 27: perplexity over the full model's",
            expected=AtLeast(value=10.0),
            ours=fixed[26].perplexity / fixed[-1].perplexity,
        ),
        Finding(what="left at p >= 0.9: agreement", expected=AtMost(value=0.5), ours=leaving[0].agreement),
        Finding(what="trained as usual, half-way: agreement", expected=AtMost(value=0.85), ours=halfway(usual)),
        Finding(what="trained behind every block, half-way", expected=AtLeast(value=0.9), ours=halfway(early)),
        Finding(
            what=f"the same left at p >= {SURE}: times fewer blocks", expected=AtLeast(value=1.3), ours=saved(early)
        ),
    )


CARD = Card(
    name="early-exit-sweep",
    claim="Leaving early costs a model most of what it says, unless it was trained with a loss behind every block.",
    source="Elhoushi et al. 2024 (arXiv 2404.16710), section 3 and figure 2",
    computed="agreement and perplexity behind the blocks of SmolLM2; two small decoders trained with and without exits",
    tolerance="bounds far from what came out",
    seconds=25,
    compute=_compute,
)
