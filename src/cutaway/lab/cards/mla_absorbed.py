"""Latent attention need not make keys and values: W_up can be multiplied into queries and outputs, with equal results.

DeepSeek-V2 (arXiv 2405.04434), section 2.1.2: "W_UK can be absorbed into W_Q, and W_UV can be absorbed into W_O".
Read next: nn/attention/latent.py, lab/checks/latent.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from cutaway.lab.card import AtMost, Card, Finding
from cutaway.lab.cards.mla_cache import DIM, LATENT
from cutaway.lab.checks.latent import Run, check_forms
from cutaway.lab.checks.parity import random
from cutaway.nn.attention.latent import Latent
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.positions import Rope

CLOSE = 1e-10
SMALL = Latent(heads=4, rank=16, head_dim=8, value_dim=6, query_rank=12, rope=Rope(width=4, interleaved=True))


def forced(absorb: bool) -> Run:
    """Our module, held to one form."""

    def run(spec: Latent, weights: Mapping[str, Tensor], x_ND: Tensor, lengths: tuple[int, ...]) -> Tensor:
        module = replace(spec, absorb=absorb).build(x_ND.shape[1])
        return torch.func.functional_call(module, dict(weights), (x_ND, Context.of(lengths)))[0]

    return run


@torch.no_grad()
def written(absorb: bool, prompt: int = 40, tokens: int = 20, dim: int = 32) -> Tensor:
    """Outputs of a prompt and of as many tokens, one by one behind it, through a cache."""
    torch.manual_seed(0)
    module = replace(SMALL, absorb=absorb).build(dim).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    cache, found = ContiguousCache((SMALL.streams(dim),), dtype=torch.float64), []
    for part in random(prompt + tokens, dim).split([prompt, *[1] * tokens]):
        found.append(module(part, Context.of((len(part),), cache=cache))[0])
        cache.advance((len(part),))
    return torch.cat(found)


def _compute() -> tuple[Finding, ...]:
    ours = check_forms(forced(False), forced(True), tolerance=float("inf"))
    steps = float((written(False) - written(True)).abs().max())
    flops = [replace(LATENT, absorb=absorb).cost(DIM, 1, 4096).flops for absorb in (False, True)]
    return (
        Finding(what="largest difference of outputs and gradients", expected=AtMost(value=CLOSE), ours=ours),
        Finding(what="the same of tokens written through a cache", expected=AtMost(value=CLOSE), ours=steps),
        Finding(
            what="absorbed over expanded: FLOPs of a token behind 4,095 in DeepSeek-V2",
            expected=AtMost(value=0.02),
            ours=flops[1] / flops[0],
        ),
    )


CARD = Card(
    name="mla-absorbed-equals-expanded",
    claim="Keys and values need not be made: with W_up multiplied into queries and outputs, all results are equal.",
    source="DeepSeek-AI 2024 (arXiv 2405.04434), section 2.1.2",
    computed="both forms of our Latent in float64: outputs, all gradients, 20 tokens through a cache; and their FLOPs",
    tolerance="1e-10: float64 products in another order; a fiftieth of the FLOPs is far above what it is",
    seconds=1,
    compute=_compute,
)
