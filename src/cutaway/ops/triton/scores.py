"""What the attention kernels share: a tile of rows out of memory, and the scores of a tile of queries and keys.

Everything here runs on the GPU, inside a kernel: `@triton.jit` functions that kernels call are compiled into them. The
rule is that of `Visible.tile`, the arithmetic that of `Rule.scores` in ops/tiled.py; arguments in capitals are known
when the kernel is compiled, so that an `if` on one of them costs nothing and a None leaves its lines out.
T query position · S key position · K head dim.   Read next: ops/triton/flash_forward.py, ops/visible.py
"""

from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def product(a, b):
    """a @ b, a rounded to b's dtype first: what tensor cores take. Sums in float32, or in float64 from float64."""
    a = a.to(b.dtype)
    if INTERPRETED and b.dtype == tl.bfloat16:
        a, b = a.to(tl.float32), b.to(tl.float32)  # numpy has no bfloat16; Triton 3.7's interpreter multiplies its bits
    # "ieee": without it a GPU would round float32 to 10 bits of mantissa before it multiplies.
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def load_rows(pointer, rows, inside, head, heads, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Some rows of one head out of (N, heads, WIDTH), as (rows, BLOCK); zeros for rows and columns that are not there.

    Memory is one long line: row n, head h and column i stand at (n * heads + h) * WIDTH + i.
    """
    columns = tl.arange(0, BLOCK)
    places = (rows.to(tl.int64)[:, None] * heads + head) * WIDTH + columns[None, :]
    return tl.load(pointer + places, mask=inside[:, None] & (columns < WIDTH)[None, :], other=0.0)


@triton.jit
def store_rows(pointer, rows, inside, head, heads, values, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """The other way: writes (rows, BLOCK), rounded to what the memory holds."""
    columns = tl.arange(0, BLOCK)
    places = (rows.to(tl.int64)[:, None] * heads + head) * WIDTH + columns[None, :]
    values = values.to(pointer.dtype.element_ty)
    tl.store(pointer + places, values, mask=inside[:, None] & (columns < WIDTH)[None, :])


@triton.jit
def tanh(x):
    """Triton has none that runs everywhere. By e^(-2|x|), which cannot overflow."""
    small = tl.exp(-2.0 * tl.abs(x))
    size = (1.0 - small) / (1.0 + small)
    return tl.where(x < 0, -size, size)


@triton.jit
def see_tile(place_T, key_S, held, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr):
    """(T, S): which of these keys each query sees. `place_T`: where queries stand among the keys of their sequence."""
    distance_TS = place_T[:, None] - key_S[None, :]
    all_TS = distance_TS == distance_TS
    seen_TS = (distance_TS >= 0) | (key_S < held)[None, :] if CAUSAL else all_TS
    if WINDOW is not None:
        near_TS = (distance_TS < WINDOW) & (distance_TS > -WINDOW)
        seen_TS = seen_TS & (near_TS | (key_S < SINKS)[None, :])
    return seen_TS


@triton.jit
def score_tile(q_TK, k_SK, bias_TS, seen_TS, SCALE: tl.constexpr, SOFTCAP: tl.constexpr, BIASED: tl.constexpr):
    """(T, S) in float32, or in float64 from float64: the scores, minus infinity where nothing is seen; and the slope
    that a soft cap has at each of them."""
    scores_TS = product(q_TK, tl.trans(k_SK)) * SCALE
    slope_TS = scores_TS * 0.0 + 1.0
    if SOFTCAP is not None:
        share_TS = tanh(scores_TS / SOFTCAP)
        scores_TS = share_TS * SOFTCAP
        slope_TS = 1.0 - share_TS * share_TS
    if BIASED:
        scores_TS += bias_TS
    return tl.where(seen_TS, scores_TS, float("-inf")), slope_TS


@triton.jit
def load_bias(pointer, first, head, queries, keys, query_T, key_S, inside_TS):
    """A tile of the bias of one sequence and head, which lies as (H, T, S) from `first` on."""
    places = first + (head * queries + query_T.to(tl.int64)[:, None]) * keys + key_S[None, :]
    return tl.load(pointer + places, mask=inside_TS, other=0.0)
