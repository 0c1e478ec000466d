"""How many tokens native sparse attention reads for one query at 65,536 tokens, counted in three ways.

Yuan et al. 2025 (arXiv 2502.11089), table 4: a token decoded at 65,536 reads as much as 5,632 tokens, where full
attention reads 65,536. Equation 7 numbers compressed blocks from 0 to floor((t - l) / d): as a count that is one block
too few. One block for each stride makes the paper's sum; the first l/d - 1 of those would begin before the text does.
Read next: nn/attention/native_sparse.py, lab/cards/nsa_equation_9.py
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.lab.card import Card, Finding, Near
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.ops.forms import READABLE

LENGTH, DIM = 65_536, 1
SIZES = NativeSparse(heads=1, kv_heads=1, head_dim=1, block=32, stride=16, select=64, top_k=16, window=512)


@torch.no_grad()
def read(spec: NativeSparse, length: int) -> float:
    """Tokens that the last of `length` reads, by the products that torch counts in a pass of it alone: those of each
    token are two, one with its key and one with its value, behind what the pass takes without any."""
    cache = ContiguousCache((spec.streams(DIM),), capacity=length)
    for stream in spec.streams(DIM):
        count = (length - 1) // stream.every
        cache.append(0, stream.name, torch.randn(count, *stream.shape), (count,))
    cache.advance((length - 1,))
    module = spec.build(DIM)
    with FlopCounterMode(display=False) as counter:
        module(torch.randn(1, DIM), Context.of((1,), cache=cache, forms=READABLE))
    each = 2 * 2 * spec.heads * spec.head_dim
    rest = spec.cost(DIM, 1, length).flops - each * sum(spec.reads(length))
    return (counter.get_total_flops() - rest) / each


def _compute() -> tuple[Finding, ...]:
    fixed = SIZES.top_k * SIZES.select + SIZES.window
    floor = (LENGTH - SIZES.block) // SIZES.stride + fixed
    strides = LENGTH // SIZES.stride + fixed
    ours = read(SIZES, LENGTH)
    return (
        Finding(what="a block for each stride: the paper's number", expected=Near(value=5632), ours=strides),
        Finding(what="whole blocks counted: what a pass reads", expected=Near(value=5631), ours=ours),
        Finding(what="by the floor of equation 7 taken as a count", expected=Near(value=5630), ours=floor),
        Finding(what="times fewer than all", expected=Near(value=11.6, tolerance=0.005), ours=LENGTH / ours),
    )


CARD = Card(
    name="nsa-tokens-read",
    claim="At 65,536 tokens NSA (l=32, d=16, l'=64, n=16, w=512) reads 5,632 tokens for a query, 11.6 times fewer.",
    source="Yuan et al. 2025 (arXiv 2502.11089), table 4",
    computed="the products of one token's pass behind 65,535, and the paper's formula as it can be read",
    tolerance="none for counts: the paper's is one above what is read; 0.5% for the ratio, printed to one decimal",
    seconds=1,
    compute=_compute,
)
