"""Paged decode attention as a GPU kernel: one program per sequence and kv head, which reads keys a page at a time.

Kwon et al. 2023 (arXiv 2309.06180), section 5.1.   y = softmax(scale * q k^T) v over the pages of a table.
All R = H / G query heads that share a kv head are rows of one tile: its keys and values are read once for all of them,
and reading is what a decoding step costs. The online softmax is that of ops/tiled.py.
Departures: no gradient; a long sequence is one program's, not split over several (Flash-Decoding).
B sequence · H query head · G kv head · R query heads of one · K head dim · P page of the pool · C place in a page
M place in a page table · V width of values.   Read next: ops/paged.py (the readable form)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.paged import refuse_short
from cutaway.ops.triton.launch import block, on_device, refuse_wide
from cutaway.ops.triton.scores import load_rows, product, score_tile, store_rows


@triton.jit
def paged_decode(
    q,  # pointers to (B, H, K), (P, C, G, K), (P, C, G, V), (B, M), (B,) and (B, H, V)
    keys,
    values,
    table,
    lengths,
    y,
    pages,  # M: how many pages a row of the table has
    groups,
    SHARING: tl.constexpr,  # R
    K: tl.constexpr,
    V: tl.constexpr,
    PAGE: tl.constexpr,  # C
    SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    WINDOW: tl.constexpr,
    BLOCK_R: tl.constexpr,  # R, C, K and V rounded up to powers of two
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Writes the output of the query heads of one sequence that share one kv head."""
    WIDE: tl.constexpr = tl.float64 if q.dtype.element_ty == tl.float64 else tl.float32
    sequence, group = tl.program_id(0), tl.program_id(1)
    length = tl.load(lengths + sequence)
    first = 0
    if WINDOW is not None:
        first = tl.maximum(length - WINDOW, 0)

    share_R = tl.arange(0, BLOCK_R)
    inside_R = share_R < SHARING
    # A sequence's heads as rows of one head each: row = sequence * H + group * R + share.
    row_R = (sequence * groups + group) * SHARING + share_R
    q_RK = load_rows(q, row_R, inside_R, 0, 1, K, BLOCK_K)
    top_R = tl.full([BLOCK_R], float("-inf"), WIDE)
    total_R = tl.full([BLOCK_R], 0.0, WIDE)
    summed_RV = tl.full([BLOCK_R, BLOCK_V], 0.0, WIDE)

    for number in range(first // PAGE, tl.cdiv(length, PAGE)):
        page = tl.load(table + sequence.to(tl.int64) * pages + number).to(tl.int64)
        place_C = tl.arange(0, BLOCK_C)
        key_C = number * PAGE + place_C  # its position in the sequence
        inside_C = (place_C < PAGE) & (key_C < length)
        k_CK = load_rows(keys, page * PAGE + place_C, inside_C, group, groups, K, BLOCK_K)
        v_CV = load_rows(values, page * PAGE + place_C, inside_C, group, groups, V, BLOCK_V)
        seen_RC = inside_R[:, None] & (inside_C & (key_C >= first))[None, :]
        scores_RC, _ = score_tile(q_RK, k_CK, 0.0, seen_RC, SCALE, SOFTCAP, False)

        new_R = tl.maximum(top_R, tl.max(scores_RC, 1))
        finite_R = tl.where(new_R == float("-inf"), 0.0, new_R)
        shrink_R, weights_RC = tl.exp(top_R - finite_R), tl.exp(scores_RC - finite_R[:, None])
        total_R = total_R * shrink_R + tl.sum(weights_RC, 1)
        summed_RV = summed_RV * shrink_R[:, None] + product(weights_RC, v_CV)
        top_R = new_R

    total_R = tl.where(total_R == 0.0, 1.0, total_R)
    store_rows(y, row_R, inside_R, 0, 1, summed_RV / total_R[:, None], V, BLOCK_V)


def attend_paged(
    q_BHK: Tensor,
    keys_PCGK: Tensor,
    values_PCGK: Tensor,
    table_BM: Tensor,
    lengths_B: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Arguments and result as `attend_paged_readable`, without a gradient; the pool is read where it lies. Raises
    BadInput for heads wider than 256 numbers, a pool with gaps between its rows, and tensors that no GPU holds."""
    batch, heads, width = q_BHK.shape
    page, groups, value_width = keys_PCGK.shape[1], keys_PCGK.shape[2], values_PCGK.shape[3]
    refuse_wide(width, value_width)
    if torch.is_grad_enabled() and (q_BHK.requires_grad or keys_PCGK.requires_grad or values_PCGK.requires_grad):
        raise BadInput("the paged kernel has no backward pass: call it without gradients", field="q_BHK")
    if not (keys_PCGK.is_contiguous() and values_PCGK.is_contiguous()):
        raise BadInput("a pool must lie in one piece, or it would be copied at every step", field="keys_PCGK")
    if not q_BHK.is_cuda:  # on a GPU asking for the longest would make the host wait for it
        refuse_short(keys_PCGK, table_BM, lengths_B)
    y_BHV = q_BHK.new_empty(batch, heads, value_width)
    if y_BHV.numel():
        with on_device(q_BHK):
            paged_decode[(batch, groups)](
                q_BHK.to(keys_PCGK.dtype).contiguous(),
                keys_PCGK,
                values_PCGK,
                table_BM.contiguous(),
                lengths_B,
                y_BHV,
                table_BM.shape[1],
                groups,
                SHARING=heads // groups,
                K=width,
                V=value_width,
                PAGE=page,
                SCALE=scale,
                SOFTCAP=softcap,
                WINDOW=window,
                BLOCK_R=block(heads // groups),
                BLOCK_C=block(page),
                BLOCK_K=block(width),
                BLOCK_V=block(value_width),
            )
    return y_BHV
