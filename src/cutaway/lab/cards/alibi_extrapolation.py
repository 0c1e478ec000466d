"""A model with ALiBi reads on beyond the length it was trained at; with learned or sinusoidal positions it does not.

Press et al. 2021 (arXiv 2108.12409), figure 1 and section 4: trained on 512 or 1,024 tokens of WikiText, read at more.
The text here is invented: each of 16 tokens follows from the two before it by a fixed table, at 9 draws in 10; the
tenth is any. To guess well is to know which token came before which: 0.60 nats, ln 16 = 2.77 without.
Departure: 2 layers of 64, trained at 32 tokens for 250 steps, read at up to 128; the learned table has rows for all of
them, of which those beyond 32 were never trained.
B batch · T position · V vocabulary.   Read next: nn/alibi.py, nn/positions.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.lab.card import AtLeast, AtMost, Card, Finding
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned, Sinusoidal
from cutaway.train.optimisers.adam import Adam
from cutaway.train.schedules import Linear, Scheduled

VOCAB, DIM, LAYERS, HEADS = 16, 64, 2, 4
TRAINED, READ, ROWS = 32, 128, 16
STEPS, RATE = 250, 3e-3


def text(rows: int, tokens: int, make: torch.Generator) -> Tensor:
    """(B, T) tokens, each by the table from the two before it, or any."""
    table_VV = torch.randint(VOCAB, (VOCAB, VOCAB), generator=torch.Generator().manual_seed(0))
    columns = list(torch.randint(VOCAB, (2, rows), generator=make))
    for _ in range(tokens - 2):
        free_B = torch.rand(rows, generator=make) < 0.1
        columns.append(
            torch.where(free_B, torch.randint(VOCAB, (rows,), generator=make), table_VV[columns[-2], columns[-1]])
        )
    return torch.stack(columns, 1)


def model(positions: Learned | Sinusoidal | None, alibi: Alibi | None) -> DecoderModel:
    mixer = GroupedQuery(heads=HEADS, kv_heads=HEADS, head_dim=DIM // HEADS, alibi=alibi)
    block = Block(mixer=mixer, feed=Plain(hidden=4 * DIM, activation="relu", bias=True), before=LayerNorm())
    return Decoder(
        vocab=VOCAB, dim=DIM, blocks=(block,) * LAYERS, length=READ, norm=LayerNorm(), positions=positions, tied=False
    ).build()


def losses(module: DecoderModel, ids_BT: Tensor) -> Tensor:
    """(B, T - 1), in nats."""
    logits_NV, _ = module(ids_BT.flatten(), Context.of((ids_BT.shape[1],) * len(ids_BT)))
    said = logits_NV.unflatten(0, tuple(ids_BT.shape))[:, :-1]
    return F.cross_entropy(said.transpose(1, 2), ids_BT[:, 1:], reduction="none")


def grown(
    positions: Learned | Sinusoidal | None = None, alibi: Alibi | None = None, steps: int = STEPS, seed: int = 0
) -> tuple[float, float]:
    """The loss within the trained length (its second half), and how much more it is from twice that on, in nats."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, make = model(positions, alibi), torch.Generator().manual_seed(seed + 1)
        optimiser = Scheduled(Adam(rate=RATE).build(module), Linear(warmup=min(20, steps // 2), steps=steps, floor=0.1))
        for _ in range(steps):
            loss = losses(module, text(ROWS, TRAINED, make)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            found_BT = losses(module.eval(), text(64, READ, make))
    within, beyond = found_BT[:, TRAINED // 2 : TRAINED - 1].mean(), found_BT[:, 2 * TRAINED :].mean()
    return float(within), float(beyond - within)


def _compute() -> tuple[Finding, ...]:
    within, alibi = grown(alibi=Alibi())
    learned, sinusoidal = grown(Learned(length=READ))[1], grown(Sinusoidal(length=READ))[1]
    return (
        Finding(what="ALiBi: loss within the trained length", expected=AtMost(value=1.2), ours=within),
        Finding(what="ALiBi: how much more beyond it", expected=AtMost(value=0.1), ours=alibi),
        Finding(what="learned: how much more beyond it", expected=AtLeast(value=0.5), ours=learned),
        Finding(what="sinusoidal: how much more beyond it", expected=AtLeast(value=0.5), ours=sinusoidal),
    )


CARD = Card(
    name="alibi-extrapolation",
    claim="Trained short and read long, a model with ALiBi keeps its loss; learned and sinusoidal positions lose it.",
    source="Press et al. 2021 (arXiv 2108.12409), figure 1 and section 4.1",
    computed="three small models trained at 32 tokens; the loss from token 64 to 128 against that of tokens 16 to 32",
    tolerance="bounds far from what came out, in nats: 0.07 less with ALiBi, 2.3 more learned, 1.9 more sinusoidal",
    seconds=12,
    compute=_compute,
)
