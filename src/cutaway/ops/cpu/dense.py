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
from torch.autograd.function import once_differentiable

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
    """x W^T (+ b), (N, R), with gradients; float32. Raises NoKernels where there are none."""
    return _Linear.apply(x_NC.contiguous(), weight_RC.contiguous(), bias_R)  # type: ignore[no-any-return]


def linear_kernels(x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None = None) -> Tensor:
    """`linear_fast`, by the kernel where it has it: in training, of plain tensors in float32, not under autocast."""
    if not torch.is_grad_enabled() or not _takes(x_NC, weight_RC, bias_R) or lists.library() is None:
        return linear_fast(x_NC, weight_RC, bias_R)
    return linear_kernel(x_NC, weight_RC, bias_R)


def _takes(x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None) -> bool:
    learns = x_NC.requires_grad or weight_RC.requires_grad
    given = (x_NC, weight_RC) if bias_R is None else (x_NC, weight_RC, bias_R)
    # Of a tensor that is sharded, or stands for one, only torch knows where its numbers lie.
    plain = all(type(one) in (Tensor, nn.Parameter) and one.is_cpu and one.dtype == torch.float32 for one in given)
    fits = learns and plain and x_NC.ndim == weight_RC.ndim == 2 and len(x_NC) >= FEWEST
    return fits and not torch.is_autocast_enabled("cpu")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_NC, weight_RC)
        y_NR = x_NC.new_empty(x_NC.shape[0], weight_RC.shape[0])
        bias_R = None if bias_R is None else bias_R.contiguous()
        alone("dense", _told(x_NC, weight_RC.t(), y_NR, bias_R))
        return y_NR

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_NR: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x_NC, weight_RC), slope_NR = ctx.saved_tensors, slope_NR.contiguous()
        by_x, by_weight, by_bias = ctx.needs_input_grad
        dx_NC = torch.empty_like(x_NC) if by_x else None
        dweight_RC = torch.empty_like(weight_RC) if by_weight else None
        products = [_told(slope_NR, weight_RC, dx_NC)] if dx_NC is not None else []
        products += [_told(slope_NR.t(), x_NC, dweight_RC)] if dweight_RC is not None else []
        if products:
            operations = Operations()
            operations.together("dense", products)
            operations.run()
        return dx_NC, dweight_RC, slope_NR.sum(0) if by_bias else None


def _told(a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None = None, *, adds: bool = False) -> Dense:
    """out (+)= a b (+ bias): right for as long as the caller keeps all these tensors."""
    pointers = map(pointer, (a, b, bias, out))
    return Dense(*pointers, *a.stride(), *b.stride(), out.stride(0), *out.shape, a.shape[1], adds)
