"""The backward pass costs twice the forward pass: each product has two gradients, each as large a product.

Kaplan et al. 2020 (arXiv 2001.08361), section 2.1; Hoffmann et al. 2022 (arXiv 2203.15556), appendix F.
    y = x W^T (2 N D F operations)     dx = dy W (2 N D F)     dW = dy^T x (2 N D F)
Read next: lab/cards/table.py
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.lab.card import Card, Finding, Near
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.forms import READABLE

TOKENS = 64


def ratio(spec: Decoder) -> tuple[float, float]:
    """Operations of the backward pass over those of the forward pass, and of the forward pass over 2 per weight and
    token, counted while they run. Only matrix products count, as in the papers."""
    module = spec.build()
    context = Context.of((TOKENS,), forms=READABLE)  # the fused attention of a CPU hides its products from the counter
    with FlopCounterMode(display=False) as forward:
        logits_NV, _ = module(torch.randint(spec.vocab, (TOKENS,)), context)
    with FlopCounterMode(display=False) as backward:
        logits_NV.sum().backward()
    weights = sum(weight.numel() for weight in module.parameters() if weight.dim() == 2)
    whole = forward.get_total_flops()
    return backward.get_total_flops() / whole, whole / (2 * weights * TOKENS)


def _compute() -> tuple[Finding, ...]:
    rope = Rope(width=32)
    block = Block(
        mixer=GroupedQuery(heads=8, kv_heads=4, head_dim=32, rope=rope), feed=Gated(hidden=704), before=RMSNorm()
    )
    spec = Decoder(vocab=512, dim=256, blocks=(block,) * 4, length=TOKENS, norm=RMSNorm(), tied=True)
    backward, forward = ratio(spec)
    return (
        Finding(what="backward over forward", expected=Near(value=2.0, tolerance=0.01), ours=backward),
        Finding(what="forward over 2 per weight and token", expected=Near(value=1.0, tolerance=0.05), ours=forward),
    )


CARD = Card(
    name="backward-is-twice-forward",
    claim="Training takes about 6 operations per parameter and token: 2 forward, 4 backward.",
    source="Kaplan et al. 2020 (arXiv 2001.08361), section 2.1, table 1",
    computed="torch's counter of operations around the forward and the backward pass of a decoder of dim 256",
    tolerance="1% of the ratio; 5% of the forward pass, whose scores the papers leave out at short lengths",
    seconds=2,
    compute=_compute,
)
