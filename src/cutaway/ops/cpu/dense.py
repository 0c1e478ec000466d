"""Linear maps in training as a kernel: the product itself, and on the way back those for its input and its weight.

torch's own product (MKL) stays with AVX2 on processors that are not Intel's. Of 768 rows, 128 to 512 columns, on one
thread of an AMD EPYC that has AVX-512 in full width: 0.43 ms in place of 0.94, and back alike; with AVX2 alone a tenth
less than torch's. Sums are rounded as MKL's are.
N tokens, flat · C columns (inputs) · R rows of the weight (outputs).   Read next: ops/cpu/dense.cpp, ops/linear.py
"""

from __future__ import annotations

from ctypes import Structure, c_int32, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from cutaway.base.errors import BadInput
from cutaway.ops.cpu import list as lists
from cutaway.ops.cpu.list import Operations, alone, pointer
from cutaway.ops.linear import linear_fast

FEWEST = 64
"""Rows of x: with fewer, laying the weight side by side takes longer than it saves."""


class Dense(Structure):
    """The arguments of `dense` (dense.cpp)."""

    _fields_ = (
        *((name, c_void_p) for name in ("a", "b", "bias", "out")),
        *((name, c_int64) for name in ("a_row", "a_column", "b_row", "b_column", "out_row")),
        *((name, c_int32) for name in ("rows", "columns", "count", "adds")),
    )


def linear_kernel(x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None = None) -> Tensor:
    """x W^T (+ b), (N, R), with gradients; float32. Raises NoKernels where there are none, BadInput for shapes that do
    not fit."""
    if not _fits(x_NC, weight_RC, bias_R):
        shapes = [tuple(one.shape) for one in (x_NC, weight_RC, bias_R) if one is not None]
        raise BadInput(
            f"rows, a weight with as many columns, and a number for each of its rows are needed, not {shapes}"
        )
    return _Linear.apply(x_NC.contiguous(), weight_RC.contiguous(), bias_R)  # type: ignore[no-any-return]


def linear_kernels(x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None = None) -> Tensor:
    """`linear_fast`, by the kernel where it has it: in training, of plain tensors in float32, not under autocast."""
    if not torch.is_grad_enabled() or not _takes(x_NC, weight_RC, bias_R) or lists.library() is None:
        return linear_fast(x_NC, weight_RC, bias_R)
    return linear_kernel(x_NC, weight_RC, bias_R)


def _fits(x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None) -> bool:
    flat = x_NC.ndim == weight_RC.ndim == 2 and x_NC.shape[1] == weight_RC.shape[1]
    return flat and (bias_R is None or bias_R.shape == weight_RC.shape[:1])


def _takes(x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None) -> bool:
    learns = x_NC.requires_grad or weight_RC.requires_grad
    given = (x_NC, weight_RC) if bias_R is None else (x_NC, weight_RC, bias_R)
    # Of a tensor that is sharded, or stands for one, only torch knows where its numbers lie.
    plain = all(type(one) in (Tensor, nn.Parameter) and one.is_cpu and one.dtype == torch.float32 for one in given)
    fits = learns and plain and _fits(x_NC, weight_RC, bias_R) and len(x_NC) >= FEWEST
    if not fits or torch.is_autocast_enabled("cpu"):
        return False
    # Nor of what torch.func or forward differentiation wraps, which looks plain, or what is negated when it is read.
    wrapped = torch._C._are_functorch_transforms_active() or any(one.is_neg() for one in given)
    return not wrapped and all(forward_ad.unpack_dual(one).tangent is None for one in given)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None) -> Tensor:
        by_x, by_weight, _ = ctx.needs_input_grad  # what a gradient does not need is not kept
        ctx.save_for_backward(x_NC if by_weight else None, weight_RC if by_x else None)
        y_NR = x_NC.new_empty(x_NC.shape[0], weight_RC.shape[0])
        bias_R = None if bias_R is None else bias_R.contiguous()
        alone("dense", _told(x_NC, weight_RC.t(), y_NR, bias_R))
        return y_NR

    @staticmethod
    def backward(ctx: Any, slope_NR: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x_NC, weight_RC), (_, _, by_bias) = ctx.saved_tensors, ctx.needs_input_grad
        dbias_R = slope_NR.sum(0) if by_bias else None
        if torch.is_grad_enabled():  # the gradient's own gradient will be asked for: torch's products have one
            dx_NC = None if weight_RC is None else slope_NR @ weight_RC
            return dx_NC, None if x_NC is None else slope_NR.t() @ x_NC, dbias_R
        slope_NR = slope_NR.contiguous()
        dx_NC = None if weight_RC is None else slope_NR.new_empty(len(slope_NR), weight_RC.shape[1])
        dweight_RC = None if x_NC is None else slope_NR.new_empty(slope_NR.shape[1], x_NC.shape[1])
        products = [] if weight_RC is None or dx_NC is None else [_told(slope_NR, weight_RC, dx_NC)]
        products += [] if x_NC is None or dweight_RC is None else [_told(slope_NR.t(), x_NC, dweight_RC)]
        if products:
            operations = Operations()
            operations.together("dense", products)
            operations.run()
        return dx_NC, dweight_RC, dbias_R


def _told(a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None = None, *, adds: bool = False) -> Dense:
    """out (+)= a b (+ bias): right for as long as the caller keeps all these tensors."""
    pointers = map(pointer, (a, b, bias, out))
    return Dense(*pointers, *a.stride(), *b.stride(), out.stride(0), *out.shape, a.shape[1], adds)
