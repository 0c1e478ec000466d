"""RMS norm and RoPE in one GPU kernel: each number is read once and written once. The kernel to read first.

How a Triton kernel reads, for who knows PyTorch. A kernel is a function that the GPU runs many times at once; each run
is a program, and `tl.program_id(0)` is its number. Tensors arrive as pointers: the address of their first number. A
program makes a block of addresses (`pointer + tl.arange(0, 64)`), loads what lies there into registers, computes on
whole blocks as with small tensors, and stores a block. Blocks come in powers of two, so a `mask` says which addresses
exist; the rest loads as `other`. Arguments marked `tl.constexpr` are constants: a kernel is compiled for each set of
them, and an `if` on one costs nothing. `kernel[(programs,)](...)` starts it. With TRITON_INTERPRET=1 in the environment
the programs run one after the other on the CPU, in numpy, where one can print and set breakpoints.

u = x / sqrt(mean(x^2) + eps),  z = u (offset + weight),  y_i = z_i cos_i + z_p(i) sin_i,  p(i) being the other of i's
pair (arXiv 1910.07467, equation 4; arXiv 2104.09864, equation 34; signed sines as in ops/rope.py). Backwards:
g_i = dy_i cos_i + dy_p(i) sin_p(i),  dweight = sum g u,  dx = (h - u mean(u h)) / sqrt(...),  h = g (offset + weight).
Departure: rounded once, at the end, where Llama's code rounds between norm and weight.
N tokens, flat · H head · K head dim · W rotary width · M rows, one for each token and head
Read next: ops/norm_rotate.py (the readable form), ops/triton/paged.py
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from cutaway.ops.triton.launch import block, on_device, refuse_wide

ROWS = 16
"""Rows of one program: a block of 16 by K numbers, a few of which fit into its registers."""


@triton.jit
def other_of_pair(column_K, W: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Where the partner of each number stands; those from W on have none, and whoever asks masks them."""
    half_K = tl.where(column_K < W // 2, column_K + W // 2, column_K - W // 2)
    return column_K ^ 1 if INTERLEAVED else half_K  # interleaved: 0 and 1, 2 and 3, ...


@triton.jit
def norm_rotate_forward(
    x,  # pointers to (M, K), (K,), (N, W), (N, W), (M, K) and (M,)
    weight,
    cos,
    sin,
    y,
    scale,
    rows,
    heads,
    K: tl.constexpr,
    W: tl.constexpr,
    EPS: tl.constexpr,
    OFFSET: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes y of some rows, and the number by which the norm multiplied each: the backward pass wants it."""
    WIDE: tl.constexpr = scale.dtype.element_ty
    row_M = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column_K = tl.arange(0, BLOCK)
    partner_K = other_of_pair(column_K, W, INTERLEAVED)
    inside_MK = (row_M < rows)[:, None] & (column_K < K)[None, :]
    turning_MK = inside_MK & (column_K < W)[None, :]

    x_MK = tl.load(x + row_M[:, None] * K + column_K[None, :], mask=inside_MK, other=0.0).to(WIDE)
    scale_M = 1.0 / tl.sqrt(tl.sum(x_MK * x_MK, 1) / K + EPS)
    gain_K = tl.load(weight + column_K, mask=column_K < K, other=0.0).to(WIDE) + OFFSET
    z_MK = x_MK * scale_M[:, None] * gain_K[None, :]

    # Blocks cannot be shuffled: the partners are loaded again, from the cache, and brought to scale alike.
    other_MK = tl.load(x + row_M[:, None] * K + partner_K[None, :], mask=turning_MK, other=0.0).to(WIDE)
    other_gain_K = tl.load(weight + partner_K, mask=column_K < W, other=0.0).to(WIDE) + OFFSET
    other_MK = other_MK * scale_M[:, None] * other_gain_K[None, :]

    # All heads of a token share a row of the tables; what does not turn is multiplied by one.
    table_MK = (row_M // heads)[:, None] * W + column_K[None, :]
    cos_MK = tl.load(cos + table_MK, mask=turning_MK, other=1.0).to(WIDE)
    sin_MK = tl.load(sin + table_MK, mask=turning_MK, other=0.0).to(WIDE)
    y_MK = z_MK * cos_MK + other_MK * sin_MK
    tl.store(y + row_M[:, None] * K + column_K[None, :], y_MK.to(y.dtype.element_ty), mask=inside_MK)
    tl.store(scale + row_M, scale_M, mask=row_M < rows)


@triton.jit
def norm_rotate_backward(
    x,
    weight,
    cos,
    sin,
    scale,
    dy,
    dx,
    dweight,  # (programs, K): each writes a row of its own, which the host adds up
    rows,
    heads,
    K: tl.constexpr,
    W: tl.constexpr,
    OFFSET: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes dx of some rows, and their part of dweight."""
    WIDE: tl.constexpr = scale.dtype.element_ty
    row_M = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column_K = tl.arange(0, BLOCK)
    partner_K = other_of_pair(column_K, W, INTERLEAVED)
    inside_MK = (row_M < rows)[:, None] & (column_K < K)[None, :]
    turning_MK = inside_MK & (column_K < W)[None, :]
    place_MK = row_M[:, None] * K + column_K[None, :]

    # Turned back: the same pairs, with the sine of the partner, whose sign is the other one.
    table_M1 = (row_M // heads)[:, None] * W
    cos_MK = tl.load(cos + table_M1 + column_K[None, :], mask=turning_MK, other=1.0).to(WIDE)
    sin_MK = tl.load(sin + table_M1 + partner_K[None, :], mask=turning_MK, other=0.0).to(WIDE)
    dy_MK = tl.load(dy + place_MK, mask=inside_MK, other=0.0).to(WIDE)
    other_MK = tl.load(dy + row_M[:, None] * K + partner_K[None, :], mask=turning_MK, other=0.0).to(WIDE)
    g_MK = dy_MK * cos_MK + other_MK * sin_MK

    scale_M = tl.load(scale + row_M, mask=row_M < rows, other=0.0)
    unit_MK = tl.load(x + place_MK, mask=inside_MK, other=0.0).to(WIDE) * scale_M[:, None]
    gain_K = tl.load(weight + column_K, mask=column_K < K, other=0.0).to(WIDE) + OFFSET
    h_MK = g_MK * gain_K[None, :]
    along_M = tl.sum(unit_MK * h_MK, 1) / K
    dx_MK = (h_MK - unit_MK * along_M[:, None]) * scale_M[:, None]
    tl.store(dx + place_MK, dx_MK.to(dx.dtype.element_ty), mask=inside_MK)
    tl.store(dweight + tl.program_id(0) * K + column_K, tl.sum(g_MK * unit_MK, 0), mask=column_K < K)


def norm_rotate_fused(
    x_NHK: Tensor,
    weight_K: Tensor,
    cos_N1W: Tensor,
    sin_N1W: Tensor,
    *,
    eps: float,
    offset: float = 0.0,
    interleaved: bool = False,
) -> Tensor:
    """Arguments and result as `norm_rotate_readable`. No gradient for the tables. Raises BadInput for heads wider than
    256 numbers and for tensors that no GPU holds."""
    refuse_wide(x_NHK.shape[2])
    told = {"EPS": eps, "OFFSET": offset, "INTERLEAVED": interleaved}
    given = (tensor.contiguous() for tensor in (x_NHK, weight_K, cos_N1W, sin_N1W))
    return _NormRotate.apply(*given, told)


class _NormRotate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_NHK: Tensor, weight_K: Tensor, cos_N1W: Tensor, sin_N1W: Tensor, told: dict[str, Any]
    ) -> Tensor:
        tokens, heads, width = x_NHK.shape
        rows = tokens * heads
        y_NHK = torch.empty_like(x_NHK)
        scale_M = x_NHK.new_empty(rows, dtype=torch.promote_types(x_NHK.dtype, torch.float32))
        sizes = {"K": width, "W": cos_N1W.shape[-1], "ROWS": ROWS, "BLOCK": block(width)}
        if rows:
            with on_device(x_NHK):
                given = (x_NHK, weight_K, cos_N1W, sin_N1W, y_NHK, scale_M, rows, heads)
                norm_rotate_forward[(triton.cdiv(rows, ROWS),)](*given, **told, **sizes)
        ctx.save_for_backward(x_NHK, weight_K, cos_N1W, sin_N1W, scale_M)
        ctx.told = {name: told[name] for name in ("OFFSET", "INTERLEAVED")} | sizes
        return y_NHK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NHK: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x_NHK, weight_K, cos_N1W, sin_N1W, scale_M = ctx.saved_tensors
        rows, heads = len(scale_M), x_NHK.shape[1]
        programs = triton.cdiv(rows, ROWS)
        dx_NHK, dweights_PK = torch.empty_like(x_NHK), scale_M.new_empty(programs, x_NHK.shape[2])
        if rows:
            with on_device(x_NHK):
                given = (x_NHK, weight_K, cos_N1W, sin_N1W, scale_M, dy_NHK.contiguous(), dx_NHK, dweights_PK)
                norm_rotate_backward[(programs,)](*given, rows, heads, **ctx.told)
        return dx_NHK, dweights_PK.sum(0).to(weight_K.dtype), None, None, None
