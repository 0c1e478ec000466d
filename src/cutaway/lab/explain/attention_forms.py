"""The same attention reckoned another way, explained.   Read next: ops/tiled.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _tiled() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import MIXER, SMOLLM2
    from cutaway.ops.tiled import Tiles

    tiles = Tiles()
    return (
        Formula(
            what="all scores of a text of S, one block's",
            symbols="4·H·S·S",
            result=4 * MIXER.heads * SMOLLM2.length**2,
            unit="bytes",
        ),
        Formula(
            what="the scores of one tile",
            symbols="4·H·128·128",
            result=4 * MIXER.heads * tiles.queries * tiles.keys,
            unit="bytes",
        ),
    )


def _absorbed() -> tuple[Formula, ...]:
    from dataclasses import replace

    from cutaway.lab.explain.example import MIXER, SMOLLM2
    from cutaway.nn.attention.latent import Latent
    from cutaway.nn.positions import Rope

    value = Latent(heads=MIXER.heads, rank=128, head_dim=MIXER.head_dim, rope=Rope(width=32, interleaved=True))

    def each(absorb: bool) -> int:
        form, seen = replace(value, absorb=absorb), SMOLLM2.length
        return form.cost(SMOLLM2.dim, 1, seen).flops - form.cost(SMOLLM2.dim, 1, seen - 1).flops

    return (
        Formula(
            what="FLOPs of a new token for each one kept, expanded",
            symbols="2·H·(128·2·K + 2·K + 32)",
            result=each(False),
        ),
        Formula(what="absorbed (rank 128, 32 rotated)", symbols="2·H·(2·128 + 32)", result=each(True)),
    )


TILED = Explanation(
    name="tiled-attention",
    title="Tiled attention (FlashAttention) and the online softmax",
    what=(
        "Written as the equation reads, attention lays down all scores, a table of tokens times tokens that no fast "
        "memory holds. The weighted mean can be had without it: go through the keys a tile at a time, keep the largest "
        "score so far, the sum of the exponentials and the weighted sum of values, and shrink both sums whenever a "
        "larger score turns up. The result is exact. For the backward pass one number for each query is kept, and the "
        "tiles are made again: more arithmetic, much less memory to read and write, and so less time. Memory grows "
        "with the text, not with its square."
    ),
    equation=(
        "m' = max(m, max S_j)\n"
        "l' = e^(m - m')·l + Σ e^(S_j - m')\n"
        "o' = e^(m - m')·o + e^(S_j - m') V_j;    at the end y = o / l"
    ),
    papers=(
        "Dao et al. 2022, FlashAttention, arXiv 2205.14135",
        "Dao 2023, FlashAttention-2, arXiv 2307.08691",
        "Milakov and Gimelshein 2018, Online normalizer calculation for softmax, arXiv 1805.02867",
    ),
    files=("ops/tiled.py", "ops/attend.py"),
    cost=_tiled,
    read_next=("attention", "forms", "gradient-checkpointing"),
    aliases=("flash", "flash-attention", "flashattention", "online-softmax", "tiled", "tiles"),
)

ABSORBED = Explanation(
    name="absorbed",
    title="The absorbed form of latent attention",
    what=(
        "Latent attention keeps a short vector for each token and makes keys and values of it by a matrix. Doing so "
        "for every kept token at every step would cost more than the cache saves. But a matrix between two vectors may "
        "stand on either side: multiplied into the query once, it need not meet the keys at all, and on the way out it "
        "meets the weighted sum instead of every value. What is left is attention over the latents themselves, as if "
        "there were one wide key head. For a whole prompt the expanded form multiplies less; each pass takes the "
        "cheaper one, and tests hold the two equal."
    ),
    equation="q · (W_k a) = (W_kᵀ q) · a          Σ w_s (W_v a_s) = W_v (Σ w_s a_s)",
    papers=("DeepSeek-AI 2024, DeepSeek-V2, arXiv 2405.04434, section 2.1.2",),
    files=("nn/attention/latent.py",),
    cost=_absorbed,
    read_next=("latent-attention", "kv-cache"),
    aliases=("absorbed-form", "weight-absorption", "absorb"),
)

ATTENTION_FORMS = (TILED, ABSORBED)
