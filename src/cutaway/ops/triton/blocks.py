"""Attention over chosen blocks of keys (native sparse attention's selection) as GPU kernels, both passes.

Yuan et al. 2025 (arXiv 2502.11089), section 3.4: a program takes one query with all R = H / G heads that share its kv
head, since these share its choice too, and fetches the chosen blocks one after the other, each once for all of them.
ops/block_sparse.py holds the readable form; the loop is that of ops/triton/paged.py, with a choice for a page table.
Backwards a block has been chosen by many queries: their programs add to its gradient at once (`tl.atomic_add`), in
float32, in whatever order they come; its last digits may differ from run to run.
N tokens, flat · S key position · H query head · G kv head · R query heads of one · K head dim · V width of values
J place in the choice · C place in a block.   Read next: ops/block_sparse.py, nn/attention/native_sparse.py
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from cutaway.ops.block_sparse import last_keys, refuse_others
from cutaway.ops.triton.launch import block as rounded
from cutaway.ops.triton.launch import on_device, refuse_wide
from cutaway.ops.triton.scores import load_rows, product, score_tile, store_rows
from cutaway.ops.visible import Visible


@triton.jit
def load_block(
    k, v, number, first, last, group, groups, SIZE: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The rows of a chosen block in k and v, which of them are seen, its keys and its values."""
    place_C = tl.arange(0, BLOCK_C)
    key_C = number * SIZE + place_C
    seen_C = (number >= 0) & (place_C < SIZE) & (key_C <= last)
    k_CK = load_rows(k, first + key_C, seen_C, group, groups, K, BLOCK_K)
    v_CV = load_rows(v, first + key_C, seen_C, group, groups, V, BLOCK_V)
    return first + key_C, seen_C, k_CK, v_CV


@triton.jit
def blocks_forward(
    q,  # pointers to (N, H, K), (S, G, K), (S, G, V), (N, G, J), (N,), (N,), (N, H, V) and (N, H)
    k,
    v,
    chosen,
    lasts,
    firsts,
    y,
    lse,
    groups,
    choices,  # J
    SHARING: tl.constexpr,  # R
    SIZE: tl.constexpr,  # of a block
    K: tl.constexpr,
    V: tl.constexpr,
    SCALE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Writes the output and the log-sum-exp of one query and the heads that share a kv head."""
    WIDE: tl.constexpr = lse.dtype.element_ty
    query, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    last, first = tl.load(lasts + query), tl.load(firsts + query)
    share_R = tl.arange(0, BLOCK_R)
    inside_R = share_R < SHARING
    row_R = (query * groups + group) * SHARING + share_R
    q_RK = load_rows(q, row_R, inside_R, 0, 1, K, BLOCK_K)
    top_R = tl.full([BLOCK_R], float("-inf"), WIDE)
    total_R = tl.full([BLOCK_R], 0.0, WIDE)
    summed_RV = tl.full([BLOCK_R, BLOCK_V], 0.0, WIDE)

    for place in range(choices):
        number = tl.load(chosen + (query * groups + group) * choices + place)
        _, seen_C, k_CK, v_CV = load_block(
            k, v, number, first, last, group, groups, SIZE, K, V, BLOCK_C, BLOCK_K, BLOCK_V
        )
        seen_RC = inside_R[:, None] & seen_C[None, :]
        scores_RC, _ = score_tile(q_RK, k_CK, 0.0, seen_RC, SCALE, None, False)
        new_R = tl.maximum(top_R, tl.max(scores_RC, 1))
        finite_R = tl.where(new_R == float("-inf"), 0.0, new_R)
        shrink_R, weights_RC = tl.exp(top_R - finite_R), tl.exp(scores_RC - finite_R[:, None])
        total_R = total_R * shrink_R + tl.sum(weights_RC, 1)
        summed_RV = summed_RV * shrink_R[:, None] + product(weights_RC, v_CV)
        top_R = new_R

    nothing_R = total_R == 0.0
    total_R = tl.where(nothing_R, 1.0, total_R)
    store_rows(y, row_R, inside_R, 0, 1, summed_RV / total_R[:, None], V, BLOCK_V)
    tl.store(lse + row_R, tl.where(nothing_R, float("inf"), top_R + tl.log(total_R)), mask=inside_R)


@triton.jit
def add_rows(pointer, rows, inside, head, heads, values, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Adds to rows of one head, while other programs may be adding to them too."""
    columns = tl.arange(0, BLOCK)
    places = (rows.to(tl.int64)[:, None] * heads + head) * WIDTH + columns[None, :]
    tl.atomic_add(pointer + places, values, mask=inside[:, None] & (columns < WIDTH)[None, :])


@triton.jit
def blocks_backward(
    q,
    k,
    v,
    chosen,
    lasts,
    firsts,
    dy,
    mean,  # (N, H): rowsum(dy y), from the host
    lse,
    dq,
    dk,
    dv,
    groups,
    choices,
    SHARING: tl.constexpr,
    SIZE: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    SCALE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Writes dq of one query and the heads that share a kv head, and adds their part to dk and dv."""
    WIDE: tl.constexpr = lse.dtype.element_ty
    query, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    last, first = tl.load(lasts + query), tl.load(firsts + query)
    share_R = tl.arange(0, BLOCK_R)
    inside_R = share_R < SHARING
    row_R = (query * groups + group) * SHARING + share_R
    q_RK = load_rows(q, row_R, inside_R, 0, 1, K, BLOCK_K)
    dy_RV = load_rows(dy, row_R, inside_R, 0, 1, V, BLOCK_V)
    mean_R = tl.load(mean + row_R, mask=inside_R, other=0.0)
    lse_R = tl.load(lse + row_R, mask=inside_R, other=float("inf"))
    dq_RK = tl.full([BLOCK_R, BLOCK_K], 0.0, WIDE)

    for place in range(choices):
        number = tl.load(chosen + (query * groups + group) * choices + place)
        row_C, seen_C, k_CK, v_CV = load_block(
            k, v, number, first, last, group, groups, SIZE, K, V, BLOCK_C, BLOCK_K, BLOCK_V
        )
        seen_RC = inside_R[:, None] & seen_C[None, :]
        scores_RC, _ = score_tile(q_RK, k_CK, 0.0, seen_RC, SCALE, None, False)
        weights_RC = tl.exp(scores_RC - lse_R[:, None])
        ds_RC = weights_RC * (product(dy_RV, tl.trans(v_CV)) - mean_R[:, None]) * SCALE
        dq_RK += product(ds_RC, k_CK)
        add_rows(dk, row_C, seen_C, group, groups, product(tl.trans(ds_RC), q_RK), K, BLOCK_K)
        add_rows(dv, row_C, seen_C, group, groups, product(tl.trans(weights_RC), dy_RV), V, BLOCK_V)

    store_rows(dq, row_R, inside_R, 0, 1, dq_RK, K, BLOCK_K)


def attend_blocks_flash(
    q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, see: Visible, chosen_NGJ: Tensor, *, block: int, scale: float
) -> Tensor:
    """Arguments and result as `attend_blocks_readable`. Raises BadInput for heads wider than 256 numbers, and for
    tensors that no GPU holds."""
    refuse_others(see)
    refuse_wide(q_NHK.shape[2], v_SGK.shape[2])
    dtype = torch.promote_types(torch.promote_types(q_NHK.dtype, k_SGK.dtype), v_SGK.dtype)
    given = (tensor.to(dtype).contiguous() for tensor in (q_NHK, k_SGK, v_SGK))
    tables = (chosen_NGJ.contiguous(), *last_keys(see, q_NHK.device))
    sizes = {
        "groups": k_SGK.shape[1],
        "choices": chosen_NGJ.shape[2],
        "SHARING": q_NHK.shape[1] // k_SGK.shape[1],
        "SIZE": block,
        "K": q_NHK.shape[2],
        "V": v_SGK.shape[2],
        "SCALE": scale,
        "BLOCK_R": rounded(q_NHK.shape[1] // k_SGK.shape[1]),
        "BLOCK_C": rounded(block),
        "BLOCK_K": rounded(q_NHK.shape[2]),
        "BLOCK_V": rounded(v_SGK.shape[2]),
    }
    return _Blocks.apply(*given, tables, sizes).to(q_NHK.dtype)


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_NHK: Tensor, k_SGK: Tensor, v_SGV: Tensor, tables: tuple[Tensor, ...], sizes: dict[str, Any]
    ) -> Tensor:
        y_NHV = q_NHK.new_empty(*q_NHK.shape[:2], v_SGV.shape[2])
        lse_NH = q_NHK.new_empty(q_NHK.shape[:2], dtype=torch.promote_types(q_NHK.dtype, torch.float32))
        if y_NHV.numel():
            with on_device(q_NHK):
                blocks_forward[(len(q_NHK), sizes["groups"])](q_NHK, k_SGK, v_SGV, *tables, y_NHV, lse_NH, **sizes)
        ctx.save_for_backward(q_NHK, k_SGK, v_SGV, y_NHV, lse_NH)
        ctx.tables, ctx.sizes = tables, sizes
        return y_NHV

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NHV: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q_NHK, k_SGK, v_SGV, y_NHV, lse_NH = ctx.saved_tensors
        dq_NHK = torch.zeros_like(q_NHK)
        dk_SGK, dv_SGV = (torch.zeros_like(tensor, dtype=lse_NH.dtype) for tensor in (k_SGK, v_SGV))
        if y_NHV.numel():
            dy_NHV = dy_NHV.contiguous()
            mean_NH = (dy_NHV.to(lse_NH.dtype) * y_NHV).sum(-1)
            with on_device(q_NHK):
                given = (q_NHK, k_SGK, v_SGV, *ctx.tables, dy_NHV, mean_NH, lse_NH, dq_NHK, dk_SGK, dv_SGV)
                blocks_backward[(len(q_NHK), ctx.sizes["groups"])](*given, **ctx.sizes)
        return dq_NHK, dk_SGK.to(k_SGK.dtype), dv_SGV.to(v_SGV.dtype), None, None
