"""What the keys and values of a long text take, and how sharing them among heads makes it less.

Ainslie et al. 2023 (arXiv 2305.13245), section 2.2: G key-value heads for H heads, a cache H / G times smaller.
Read next: nn/attention/grouped.py, nn/stream.py, lab/cards/mla_cache.py
"""

from __future__ import annotations

import torch

from cutaway.lab.card import Card, Finding, Near
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.cache import ContiguousCache

LAYERS, HEADS, WIDTH, TOKENS = 32, 32, 128, 32_768
CLAIMED = {32: 17.18, 8: 4.29}  # 10^9 bytes, by the number of key-value heads


def held(kv_heads: int) -> int:
    """Bytes that our cache holds of one sequence in bfloat16. On the "meta" device it has sizes and no memory."""
    mixer = GroupedQuery(heads=HEADS, kv_heads=kv_heads, head_dim=WIDTH)
    streams = mixer.streams(HEADS * WIDTH)
    cache = ContiguousCache((streams,) * LAYERS, dtype=torch.bfloat16, device="meta")
    for layer in range(LAYERS):
        for stream in streams:
            cache.append(layer, stream.name, torch.empty(TOKENS, *stream.shape, device="meta"), (TOKENS,))
    cache.advance((TOKENS,))
    return cache.bytes


def _compute() -> tuple[Finding, ...]:
    found = {kv_heads: held(kv_heads) / 1e9 for kv_heads in CLAIMED}
    return (
        *(
            Finding(
                what=f"{kv_heads} key-value heads: GB", expected=Near(value=value, tolerance=2e-3), ours=found[kv_heads]
            )
            for kv_heads, value in CLAIMED.items()
        ),
        Finding(what="times less", expected=Near(value=HEADS / 8), ours=found[32] / found[8]),
    )


CARD = Card(
    name="gqa-cache",
    claim="32 layers of 32 heads of 128 keep 17.18 GB of 32,768 tokens in bfloat16; with 8 key-value heads 4.29 GB.",
    source="Ainslie et al. 2023 (arXiv 2305.13245), section 2.2; the sizes are those of a 7B Llama",
    computed="the bytes that our cache holds after as many tokens, on torch's device without memory",
    tolerance="0.2%: the claim is rounded to hundredths of a GB; the ratio is exact",
    seconds=1,
    compute=_compute,
)
