"""The forward pass of FlashAttention-2 as a GPU kernel: a program per tile of queries and head, keys a tile at a time.

Dao 2023 (arXiv 2307.08691), algorithm 1. The loop is `OnlineSoftmax` in ops/tiled.py, its readable sibling: the largest
score so far, the sum of e^(score - largest) and the sum of e^(score - largest) v, all three kept in registers. The
scores never reach memory; y does, and one log-sum-exp for each query and head, from which the backward pass computes
everything again.
New to Triton? ops/triton/norm_rotate.py is the kernel to begin with.
Departures: sequences of any length end to end; keys are visited in the order sinks, then the others.
N tokens, flat · T query position · S key position · H query head · G kv head · K head dim · V width of values
Read next: ops/triton/flash_backward.py, ops/triton/scores.py
"""

from __future__ import annotations

import triton
import triton.language as tl

from cutaway.ops.triton.scores import load_bias, load_rows, product, score_tile, see_tile, store_rows


@triton.jit
def flash_forward(
    q,  # pointers to (N, H, K), (S, G, K), (S, G, V), the biases of all sequences, (N, H, V) and (N, H)
    k,
    v,
    bias,
    y,
    lse,
    sequences,  # the tables of `Plan`
    tiles,
    heads,
    groups,
    K: tl.constexpr,
    V: tl.constexpr,
    SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    SINKS: tl.constexpr,
    BIASED: tl.constexpr,
    BLOCK_T: tl.constexpr,  # the size of a tile; BLOCK_K and BLOCK_V are K and V rounded up to powers of two
    BLOCK_S: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Writes the output and the log-sum-exp of one tile of queries and one head."""
    WIDE: tl.constexpr = lse.dtype.element_ty  # float32, or float64 where q is
    tile, head = tiles + tl.program_id(0) * 5, tl.program_id(1)
    start, sinks_end = tl.load(tile + 1), tl.load(tile + 2)
    near_start, near_end = tl.load(tile + 3), tl.load(tile + 4)
    sequence = sequences + tl.load(tile) * 6
    first_query, queries = tl.load(sequence), tl.load(sequence + 1)
    first_key, keys = tl.load(sequence + 2), tl.load(sequence + 3)
    held, first_bias = tl.load(sequence + 4), tl.load(sequence + 5)
    group = head // (heads // groups)

    query_T = start + tl.arange(0, BLOCK_T)
    inside_T = query_T < queries
    q_TK = load_rows(q, first_query + query_T, inside_T, head, heads, K, BLOCK_K)
    top_T = tl.full([BLOCK_T], float("-inf"), WIDE)
    total_T = tl.full([BLOCK_T], 0.0, WIDE)
    summed_TV = tl.full([BLOCK_T, BLOCK_V], 0.0, WIDE)

    sink_tiles = tl.cdiv(sinks_end, BLOCK_S)
    for number in range(sink_tiles + tl.cdiv(near_end - near_start, BLOCK_S)):
        among_sinks = number < sink_tiles
        first = tl.where(among_sinks, number * BLOCK_S, near_start + (number - sink_tiles) * BLOCK_S)
        key_S = first + tl.arange(0, BLOCK_S)
        inside_S = key_S < tl.where(among_sinks, sinks_end, near_end)
        k_SK = load_rows(k, first_key + key_S, inside_S, group, groups, K, BLOCK_K)
        v_SV = load_rows(v, first_key + key_S, inside_S, group, groups, V, BLOCK_V)

        seen_TS = inside_T[:, None] & inside_S[None, :]
        bias_TS = 0.0
        if BIASED:
            bias_TS = load_bias(bias, first_bias, head, queries, keys, query_T, key_S, seen_TS)
        seen_TS &= see_tile(keys - queries + query_T, key_S, held, CAUSAL, WINDOW, SINKS)
        scores_TS, _ = score_tile(q_TK, k_SK, bias_TS, seen_TS, SCALE, SOFTCAP, BIASED)

        # Who has seen nothing yet keeps a top of -inf: e^(-inf - 0) is 0, where e^(-inf + inf) would be no number.
        new_T = tl.maximum(top_T, tl.max(scores_TS, 1))
        finite_T = tl.where(new_T == float("-inf"), 0.0, new_T)
        shrink_T, weights_TS = tl.exp(top_T - finite_T), tl.exp(scores_TS - finite_T[:, None])
        total_T = total_T * shrink_T + tl.sum(weights_TS, 1)
        summed_TV = summed_TV * shrink_T[:, None] + product(weights_TS, v_SV)
        top_T = new_T

    nothing_T = total_T == 0.0
    total_T = tl.where(nothing_T, 1.0, total_T)
    store_rows(y, first_query + query_T, inside_T, head, heads, summed_TV / total_T[:, None], V, BLOCK_V)
    # An lse of infinity makes e^(score - lse) zero: who saw nothing gets no gradient either.
    lse_T = tl.where(nothing_T, float("inf"), top_T + tl.log(total_T))
    tl.store(lse + (first_query + query_T) * heads + head, lse_T, mask=inside_T)
