"""The backward pass of FlashAttention-2 as two GPU kernels, which compute each tile of weights again from the lse.

Dao 2023 (arXiv 2307.08691), algorithm 2.   P = e^(S - lse),  dV = P^T dY,  dS = P (dY V^T - mean),  dQ = dS K,
dK = dS^T Q;  mean = rowsum(dY y) comes from the host. `Rule.backward` in ops/tiled.py is the readable sibling.
Departure: the paper makes dQ, dK and dV in one pass over keys, adding to dQ from many programs at once; here one kernel
goes over the keys of some queries (dQ, and the bias) and one over the queries of some keys (dK, dV). Each tile is then
computed twice, and each number has one writer: the same gradient at every run.
N tokens, flat · T query position · S key position · H query head · G kv head · K head dim · V width of values
Read next: ops/triton/flash.py
"""

from __future__ import annotations

import triton
import triton.language as tl

from cutaway.ops.triton.scores import load_bias, load_rows, product, score_tile, see_tile, store_rows


@triton.jit
def flash_backward_queries(
    q,  # pointers: q, k, v, bias as in the forward pass; dy (N, H, V); mean and lse (N, H); dq as q, dbias as the bias
    k,
    v,
    bias,
    dy,
    mean,
    lse,
    dq,
    dbias,
    sequences,
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
    BIAS_LEARNS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Writes dq of one tile of queries and one head, and their part of dbias."""
    WIDE: tl.constexpr = lse.dtype.element_ty
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
    row_T = first_query + query_T
    q_TK = load_rows(q, row_T, inside_T, head, heads, K, BLOCK_K)
    dy_TV = load_rows(dy, row_T, inside_T, head, heads, V, BLOCK_V)
    mean_T = tl.load(mean + row_T * heads + head, mask=inside_T, other=0.0)
    lse_T = tl.load(lse + row_T * heads + head, mask=inside_T, other=float("inf"))
    dq_TK = tl.full([BLOCK_T, BLOCK_K], 0.0, WIDE)

    sink_tiles = tl.cdiv(sinks_end, BLOCK_S)
    for number in range(sink_tiles + tl.cdiv(near_end - near_start, BLOCK_S)):
        among_sinks = number < sink_tiles
        first = tl.where(among_sinks, number * BLOCK_S, near_start + (number - sink_tiles) * BLOCK_S)
        key_S = first + tl.arange(0, BLOCK_S)
        inside_S = key_S < tl.where(among_sinks, sinks_end, near_end)
        k_SK = load_rows(k, first_key + key_S, inside_S, group, groups, K, BLOCK_K)
        v_SV = load_rows(v, first_key + key_S, inside_S, group, groups, V, BLOCK_V)

        inside_TS = inside_T[:, None] & inside_S[None, :]
        bias_TS = 0.0
        if BIASED:
            bias_TS = load_bias(bias, first_bias, head, queries, keys, query_T, key_S, inside_TS)
        seen_TS = inside_TS & see_tile(keys - queries + query_T, key_S, held, CAUSAL, WINDOW, SINKS)
        scores_TS, slope_TS = score_tile(q_TK, k_SK, bias_TS, seen_TS, SCALE, SOFTCAP, BIASED)
        weights_TS = tl.exp(scores_TS - lse_T[:, None])
        dweights_TS = product(dy_TV, tl.trans(v_SV))
        ds_TS = weights_TS * (dweights_TS - mean_T[:, None])
        if BIAS_LEARNS:
            places = first_bias + (head * queries + query_T[:, None]) * keys + key_S[None, :]
            tl.store(dbias + places, ds_TS.to(dbias.dtype.element_ty), mask=inside_TS)
        ds_TS = ds_TS * slope_TS * SCALE
        dq_TK += product(ds_TS, k_SK)

    store_rows(dq, row_T, inside_T, head, heads, dq_TK, K, BLOCK_K)


@triton.jit
def flash_backward_keys(
    q,
    k,
    v,
    bias,
    dy,
    mean,
    lse,
    dk,
    dv,
    sequences,
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
    BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Writes dk and dv of one tile of keys and one kv head: sums over all queries and over the heads that share it."""
    WIDE: tl.constexpr = lse.dtype.element_ty
    tile, group = tiles + tl.program_id(0) * 4, tl.program_id(1)
    start, reach_start, reach_end = tl.load(tile + 1), tl.load(tile + 2), tl.load(tile + 3)
    sequence = sequences + tl.load(tile) * 6
    first_query, queries = tl.load(sequence), tl.load(sequence + 1)
    first_key, keys = tl.load(sequence + 2), tl.load(sequence + 3)
    held, first_bias = tl.load(sequence + 4), tl.load(sequence + 5)
    sharing = heads // groups

    key_S = start + tl.arange(0, BLOCK_S)
    inside_S = key_S < keys
    k_SK = load_rows(k, first_key + key_S, inside_S, group, groups, K, BLOCK_K)
    v_SV = load_rows(v, first_key + key_S, inside_S, group, groups, V, BLOCK_V)
    dk_SK = tl.full([BLOCK_S, BLOCK_K], 0.0, WIDE)
    dv_SV = tl.full([BLOCK_S, BLOCK_V], 0.0, WIDE)

    for head in range(group * sharing, (group + 1) * sharing):
        for first in range(reach_start, reach_end, BLOCK_T):
            query_T = first + tl.arange(0, BLOCK_T)
            inside_T = query_T < reach_end
            row_T = first_query + query_T
            q_TK = load_rows(q, row_T, inside_T, head, heads, K, BLOCK_K)
            dy_TV = load_rows(dy, row_T, inside_T, head, heads, V, BLOCK_V)
            mean_T = tl.load(mean + row_T * heads + head, mask=inside_T, other=0.0)
            lse_T = tl.load(lse + row_T * heads + head, mask=inside_T, other=float("inf"))

            seen_TS = inside_T[:, None] & inside_S[None, :]
            bias_TS = 0.0
            if BIASED:
                bias_TS = load_bias(bias, first_bias, head, queries, keys, query_T, key_S, seen_TS)
            seen_TS &= see_tile(keys - queries + query_T, key_S, held, CAUSAL, WINDOW, SINKS)
            scores_TS, slope_TS = score_tile(q_TK, k_SK, bias_TS, seen_TS, SCALE, SOFTCAP, BIASED)
            weights_TS = tl.exp(scores_TS - lse_T[:, None])
            dv_SV += product(tl.trans(weights_TS), dy_TV)
            dweights_TS = product(dy_TV, tl.trans(v_SV))
            ds_TS = weights_TS * (dweights_TS - mean_T[:, None]) * slope_TS * SCALE
            dk_SK += product(tl.trans(ds_TS), q_TK)

    store_rows(dk, first_key + key_S, inside_S, group, groups, dk_SK, K, BLOCK_K)
    store_rows(dv, first_key + key_S, inside_S, group, groups, dv_SV, V, BLOCK_V)
