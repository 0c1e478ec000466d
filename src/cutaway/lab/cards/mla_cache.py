"""What DeepSeek-V2's latent attention keeps of a token, beside attention with as many heads.

DeepSeek-V2 (arXiv 2405.04434), section 2.1.4 and table 1: d_c + d_R = 4.5 d_h numbers for each token and layer, as much
as GQA with 2.25 groups; MHA keeps 2 n_h d_h.   Read next: nn/attention/latent.py
"""

from __future__ import annotations

import torch

from cutaway.lab.card import Card, Finding, Near
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.positions import Rope

DIM, HEADS, WIDTH, TOKENS = 5120, 128, 128, 10
LATENT = Latent(heads=HEADS, rank=512, head_dim=WIDTH, query_rank=1536, rope=Rope(width=64, interleaved=True))


def kept(mixer: Latent | GroupedQuery) -> float:
    """Numbers that a cache holds of each token once it has been read, on torch's device without memory."""
    with torch.device("meta"), torch.no_grad():
        cache = ContiguousCache((mixer.streams(DIM),), device="meta")
        mixer.build(DIM)(torch.empty(TOKENS, DIM), Context.of((TOKENS,), cache=cache, device="meta"))
    cache.advance((TOKENS,))
    return cache.bytes / torch.float32.itemsize / TOKENS


def _compute() -> tuple[Finding, ...]:
    latent, full = kept(LATENT), kept(GroupedQuery(heads=HEADS, kv_heads=HEADS, head_dim=WIDTH))
    one_group = kept(GroupedQuery(heads=HEADS, kv_heads=1, head_dim=WIDTH))
    return (
        Finding(what="numbers of a token and layer, latent", expected=Near(value=576), ours=latent),
        Finding(what="the same with 128 heads' keys and values", expected=Near(value=32_768), ours=full),
        Finding(what="times less", expected=Near(value=56.9, tolerance=1e-3), ours=full / latent),
        Finding(what="groups of GQA that keep as much", expected=Near(value=2.25), ours=latent / one_group),
    )


CARD = Card(
    name="mla-cache",
    claim="DeepSeek-V2 keeps 576 numbers of a token in each layer where 128 heads would keep 32,768, 56.9 times less.",
    source="DeepSeek-AI 2024 (arXiv 2405.04434), section 2.1.4 and table 1",
    computed="what a cache holds behind our Latent and our GroupedQuery of its sizes, after a pass without memory",
    tolerance="none but for the ratio, which is rounded to tenths",
    seconds=1,
    compute=_compute,
)
