"""Attention that reads less than everything, explained.   Read next: nn/attention/native_sparse.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _native() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import MIXER, SMOLLM2
    from cutaway.nn.attention.native_sparse import NativeSparse

    value = NativeSparse(heads=MIXER.heads, kv_heads=MIXER.kv_heads, head_dim=MIXER.head_dim)
    short, selected, near = value.reads(SMOLLM2.length)
    return (
        Formula(what="keys in short at S, blocks of 32, one every 16", symbols="(S - 32)//16 + 1", result=short),
        Formula(what="selected: 16 blocks of 64", symbols="16·64", result=selected),
        Formula(what="window", symbols="512", result=near),
        Formula(
            what="all that a token reads", symbols="(S - 32)//16 + 1 + 16·64 + 512", result=short + selected + near
        ),
    )


def _blocks() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import MIXER, SMOLLM2
    from cutaway.nn.attention.block_sparse import BlockSparse, mask

    seen = mask(SMOLLM2.length // 128, near=4, first=1)
    value = BlockSparse(heads=MIXER.heads, kv_heads=MIXER.kv_heads, head_dim=MIXER.head_dim, block=128, seen=seen)
    return (
        Formula(
            what="keys read at S: 4 near blocks of 128 and the first one",
            symbols="(4 + 1)·128",
            result=value.reads(SMOLLM2.length),
        ),
        Formula(what="keys read without a mask", symbols="S", result=SMOLLM2.length),
    )


def _sinks() -> tuple[Formula, ...]:
    from dataclasses import replace

    from cutaway.lab.explain.example import MIXER, SMOLLM2

    rolling = replace(MIXER, window=1020, sinks=4).cost(SMOLLM2.dim, 1, SMOLLM2.length)
    full = MIXER.cost(SMOLLM2.dim, 1, SMOLLM2.length)
    return (
        Formula(
            what="cache, 4 sinks and 1,020 last", symbols="2·G·K·4·(4 + 1020)", result=rolling.cache_bytes, unit="bytes"
        ),
        Formula(what="cache at S, everything", symbols="2·G·K·4·S", result=full.cache_bytes, unit="bytes"),
    )


NATIVE = Explanation(
    name="native-sparse",
    title="Native sparse attention (NSA)",
    what=(
        "Of a long text a token needs little, but nobody knows beforehand which part. NSA reads it three ways at once. "
        "Every block of 32 tokens is pressed into one key and value by a small learned network, and all of those are "
        "read. Their scores say which blocks matter; sixteen of these are read in full, the first and the two nearest "
        "always among them. The last 512 tokens are read as they are, and a gate for each head mixes the three. It is "
        "trained so from the beginning, not cut out of a dense model afterwards."
    ),
    equation=(
        "y = Σ over c of  g_c · attend(q, k_c, v_c),    c: compressed, selected, window\n"
        "selected: the n blocks of largest Σ over a group's heads of their compressed weights"
    ),
    papers=("Yuan et al. 2025, Native Sparse Attention, arXiv 2502.11089, equations 5 to 12",),
    files=("nn/attention/native_sparse.py", "nn/attention/compression.py", "nn/attention/selection.py"),
    cost=_native,
    read_next=("block-sparse", "sliding-window", "grouped-query"),
    aliases=("nsa", "native-sparse-attention", "sparse"),
)

BLOCK_SPARSE = Explanation(
    name="block-sparse",
    title="Block-sparse attention",
    what=(
        "The table of who sees whom is cut into square blocks, and whole blocks are left out by a mask that is fixed "
        "beforehand: near ones, the first ones, every so-many-th. Blocks, because a processor multiplies tiles: single "
        "entries left out save nothing. The tokens that a mask hides can still arrive over several layers, by way of "
        "those that see them. All keys are kept, since a later block may see any of them: it saves arithmetic, not "
        "cache."
    ),
    equation="y_t = softmax(q_t k_Cᵀ / √K) v_C,    C: tokens s ≤ t of the blocks that t's block sees",
    papers=(
        "Child et al. 2019, Sparse Transformers, arXiv 1904.10509, section 4.3",
        "Zaheer et al. 2020, BigBird, arXiv 2007.14062",
    ),
    files=("nn/attention/block_sparse.py", "ops/block_sparse.py"),
    cost=_blocks,
    read_next=("native-sparse", "sliding-window", "tiled-attention"),
    aliases=("sparse-transformer", "bigbird", "block-mask"),
)

SINKS = Explanation(
    name="sinks",
    title="Attention sinks (StreamingLLM)",
    what=(
        "Weights have to add up to one, so a head that looks for nothing must put them somewhere; models learn to put "
        "them on the first tokens. A window that drops those tokens takes away the place where nothing goes, and the "
        "model breaks. Keeping the first four beside the window mends it, without training. Positions are places in "
        "the rolling cache, so a text without end never leaves the distances that the model knows. What lies between "
        "sinks and window is forgotten: the model can go on for ever, but does not remember more."
    ),
    equation="seen by t:  s < k  or  t - s < w;    a query stands at min(t, k + w - 1)",
    papers=("Xiao et al. 2023, StreamingLLM, arXiv 2309.17453, sections 3.1 and 3.2",),
    files=("nn/attention/sinks.py", "nn/attention/grouped.py"),
    cost=_sinks,
    read_next=("sliding-window", "kv-cache", "alibi"),
    aliases=("streamingllm", "streaming-llm", "attention-sinks", "attention-sink", "rolling-cache"),
)

SPARSE = (NATIVE, BLOCK_SPARSE, SINKS)
