"""Attention explained.   Read next: nn/attention/grouped.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _attention() -> tuple[Formula, ...]:
    from dataclasses import replace

    from cutaway.lab.explain.example import MIXER, SMOLLM2

    seen = SMOLLM2.length
    products = MIXER.cost(SMOLLM2.dim, 1, seen).flops - replace(MIXER, window=1).cost(SMOLLM2.dim, 1, seen).flops
    return (
        Formula(what="FLOPs for one token behind S - 1 others, one block", symbols="4·H·K·(S - 1)", result=products),
    )


def _grouped() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import MIXER, SMOLLM2

    cost = MIXER.cost(SMOLLM2.dim, 1, SMOLLM2.length)
    return (
        Formula(what="parameters of one block's", symbols="2·D·H·K + 2·D·G·K", result=cost.parameters),
        Formula(what="FLOPs per token at S", symbols="4·D·H·K + 4·D·G·K + 4·H·K·S", result=cost.flops),
        Formula(what="cache at S", symbols="2·G·K·4·S", result=cost.cache_bytes, unit="bytes"),
    )


def _window() -> tuple[Formula, ...]:
    from dataclasses import replace

    from cutaway.lab.explain.example import MIXER, SMOLLM2

    full = MIXER.cost(SMOLLM2.dim, 1, SMOLLM2.length)
    near = replace(MIXER, window=512).cost(SMOLLM2.dim, 1, SMOLLM2.length)
    return (
        Formula(what="cache at S, window 512", symbols="2·G·K·4·512", result=near.cache_bytes, unit="bytes"),
        Formula(what="cache at S, no window", symbols="2·G·K·4·S", result=full.cache_bytes, unit="bytes"),
    )


def _head_norm() -> tuple[Formula, ...]:
    from dataclasses import replace

    from cutaway.lab.explain.example import MIXER, SMOLLM2
    from cutaway.nn.norms import RMSNorm

    plain = MIXER.cost(SMOLLM2.dim, 1, 1).parameters
    normed = replace(MIXER, head_norm=RMSNorm()).cost(SMOLLM2.dim, 1, 1).parameters
    return (Formula(what="parameters more, one block", symbols="2·K", result=normed - plain),)


def _latent() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import MIXER, SMOLLM2
    from cutaway.nn.attention.latent import Latent
    from cutaway.nn.positions import Rope

    mixer = Latent(heads=MIXER.heads, rank=128, head_dim=MIXER.head_dim, rope=Rope(width=32, interleaved=True))
    cost = mixer.cost(SMOLLM2.dim, 1, SMOLLM2.length)
    flops = "2·D·H·(K + 32) + 2·D·(128 + 32) + 2·D·H·K + 4·128·H·K + 2·H·(2·128 + 32)·S"
    own = 2 * MIXER.heads * MIXER.head_dim * 4 * SMOLLM2.length
    return (
        Formula(
            what="cache at S, rank 128, 32 rotated", symbols="(128 + 32)·4·S", result=cost.cache_bytes, unit="bytes"
        ),
        Formula(what="cache at S, all heads their own", symbols="2·H·K·4·S", result=own, unit="bytes"),
        Formula(what="FLOPs of one token at S, absorbed", symbols=flops, result=cost.flops),
    )


ATTENTION = Explanation(
    name="attention",
    title="Attention",
    what=(
        "Attention is how a token takes something from other tokens. Each token makes three vectors: a query (what it "
        "looks for), a key (what it can be found by) and a value (what it gives). The query is compared with the keys "
        "of all tokens that it may see; the scores become weights that sum to one, and the token takes the weighted "
        "mean of their values. A token sees only itself and those before it, or it could read the answer that it is "
        "to predict. Several heads do this side by side, each with queries and keys of its own. The work per token "
        "grows with the text: this is what makes long texts expensive."
    ),
    equation="y = softmax(q kᵀ / √K) v",
    papers=("Vaswani et al. 2017, Attention Is All You Need, arXiv 1706.03762, section 3.2",),
    files=("ops/attend.py", "ops/visible.py"),
    cost=_attention,
    read_next=("grouped-query", "kv-cache", "rope"),
    aliases=("attend", "self-attention"),
)

GROUPED = Explanation(
    name="grouped-query",
    title="Grouped-query attention",
    what=(
        "Every token that was read leaves its keys and values in the cache, and every new token reads all of them. "
        "Grouped-query attention makes them fewer: several query heads share one key-value head. With as many "
        "key-value heads as query heads it is plain multi-head attention (MHA); with a single one it is multi-query "
        "attention (MQA). In between it is nearly as good as MHA and nearly as cheap as MQA. One value, GroupedQuery, "
        "describes all three, with the variants that families add: biases, a window, a soft cap, norms on queries and "
        "keys."
    ),
    equation="head h:   y_h = softmax(q_h k_gᵀ / √K) v_g,   g = ⌊h / (H / G)⌋\noutput = [y_1 … y_H] W_o",
    papers=(
        "Ainslie et al. 2023, GQA, arXiv 2305.13245",
        "Shazeer 2019, Fast Transformer Decoding (MQA), arXiv 1911.02150",
    ),
    files=("nn/attention/grouped.py", "ops/attend.py"),
    cost=_grouped,
    read_next=("attention", "kv-cache", "sliding-window"),
    aliases=("gqa", "mha", "mqa", "multi-head", "multi-query", "mixer"),
)

LATENT = Explanation(
    name="latent-attention",
    title="Multi-head latent attention",
    what=(
        "Latent attention (MLA) keeps neither keys nor values. Each token leaves one short vector, its latent, from "
        "which every head's key and value can be made again, and one small rotated key that all heads share and that "
        "says where the token stands. For a prompt they are made in full: that is the expanded form. A single new "
        "token would have to make them for the whole text; instead its query is brought into the latents' own space, "
        "meets them there, and what comes out is brought back: that is the absorbed form, with equal results. "
        "DeepSeek-V2 so keeps 576 numbers of a token in each layer where 128 heads would keep 32,768."
    ),
    equation=(
        "latent c = norm(W_down x),   [k_h v_h] = W_up,h c\n"
        "absorbed:   q · (W_k c) = (W_kᵀ q) · c,   Σ w (W_v c) = W_v (Σ w c)"
    ),
    papers=("DeepSeek-AI 2024, DeepSeek-V2, arXiv 2405.04434, section 2.1",),
    files=("nn/attention/latent.py", "ops/attend.py"),
    cost=_latent,
    read_next=("grouped-query", "kv-cache", "rope"),
    aliases=("mla", "latent", "multi-head-latent"),
)

WINDOW = Explanation(
    name="sliding-window",
    title="Sliding window",
    what=(
        "Under a sliding window a token sees only the last few hundred or thousand tokens, itself included. Its work "
        "and its cache then stop growing once the text is longer than the window. What is further back still arrives, "
        "since each block carries it one window further. Gemma 2 and 3 mix the two: most blocks see a window, every "
        "second or sixth sees everything. A cache with a window can forget rows for good, so it can be cut back only "
        "as far as it still holds all that is needed."
    ),
    equation="token t sees s   where   t - window < s ≤ t",
    papers=(
        "Beltagy, Peters and Cohan 2020, Longformer, arXiv 2004.05150",
        "Jiang et al. 2023, Mistral 7B, arXiv 2310.06825",
    ),
    files=("nn/attention/grouped.py", "ops/visible.py", "nn/cache.py"),
    cost=_window,
    read_next=("grouped-query", "kv-cache"),
    aliases=("window",),
)

HEAD_NORM = Explanation(
    name="qk-norm",
    title="Norms on queries and keys, and soft caps",
    what=(
        "Where queries and keys grow, their products grow faster, softmax puts all weight on one token, and training "
        "breaks. Two remedies are in use. Qwen 3 and Gemma 3 norm each head's query and key before they are "
        "multiplied, which bounds the score. Gemma 2 bends the scores themselves with a tanh, so that none can exceed "
        "the cap; the fused attention of most libraries has no such step, so a readable form has to answer there."
    ),
    equation="QK-norm:   score = norm(q) · norm(k) · scale\nsoft cap:  score = cap · tanh(score / cap)",
    papers=(
        "Henry et al. 2020, Query-Key Normalization, arXiv 2010.04245",
        "Gemma team 2024, Gemma 2, arXiv 2408.00118, section 2",
    ),
    files=("nn/attention/grouped.py", "ops/attend.py"),
    cost=_head_norm,
    read_next=("grouped-query", "rmsnorm"),
    aliases=("softcap", "soft-cap", "head-norm"),
)

ATTENTIONS = (ATTENTION, GROUPED, LATENT, WINDOW, HEAD_NORM)
