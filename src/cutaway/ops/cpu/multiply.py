"""Rows times a packed matrix by our own kernels, each with its sibling in torch: the same arguments, the same product.

    times_exact    fp32 activations: nothing is rounded but fp32 sums
    times_int8     activations rounded to int8 in groups of 32 columns: several times faster; the bound of what that
                   costs is in ops/cpu/pack.py
and the two as forms of `multiply` (ops/forms.py), `multiply_kernels` and `multiply_kernels_int8`: they take the packed
matrix of a model and leave to torch what they do not do (gradients, other devices, no kernels here).
Read next: ops/cpu/pack.py, ops/cpu/multiply_exact.cpp, ops/cpu/multiply_int8.cpp
"""

# N rows of x · R rows (outputs) · C columns (inputs) · G groups of 32 columns

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.base.errors import BadInput, CutawayError
from cutaway.ops.cpu.build import library
from cutaway.ops.cpu.list import ran
from cutaway.ops.cpu.pack import Strips, rounded
from cutaway.ops.multiply.fast import multiply_fast
from cutaway.ops.multiply.narrow import MANY, narrow
from cutaway.ops.packed import Joined, Packed


def times_exact_readable(x_NC: Tensor, strips: Strips) -> Tensor:
    """x (N, C) times strips -> (N, R) float32."""
    return x_NC.float() @ strips.weights().T


def times_int8_readable(x_NC: Tensor, strips: Strips) -> Tensor:
    """x (N, C), rounded in groups of 32 columns, times strips -> (N, R) float32."""
    x = rounded(x_NC)
    restored_NC = (x.scales_NG[..., None] * x.codes_NG).flatten(1)[:, : x_NC.shape[1]]
    return restored_NC @ strips.weights().T


def times_exact(x_NC: Tensor, strips: Strips) -> Tensor:
    """The same as `times_exact_readable` by the kernel.

    BadInput where shapes do not fit, CutawayError where there are no kernels.
    """
    return _times(x_NC, strips, False)


def times_int8(x_NC: Tensor, strips: Strips) -> Tensor:
    """The same as `times_int8_readable` by the kernel, which takes no plain weights: BadInput."""
    if strips.kind.dtype is not None:
        raise BadInput("plain weights are multiplied by fp32 activations only")
    return _times(x_NC, strips, True)


def _times(x_NC: Tensor, strips: Strips, int8: bool) -> Tensor:
    kernels = library()
    if kernels is None:
        raise CutawayError("there are no kernels here (`cutaway doctor` says why)")
    if x_NC.dim() != 2 or x_NC.shape[1] != strips.columns or not x_NC.is_cpu:
        raise BadInput(
            f"rows of {strips.columns} numbers in memory are needed, not {tuple(x_NC.shape)} on {x_NC.device}"
        )
    x = x_NC if x_NC.dtype == torch.float32 and x_NC.is_contiguous() else x_NC.float().contiguous()
    count = x_NC.shape[0]
    y_NR = torch.empty(count, strips.rows, dtype=torch.float32)
    # Plain integers for pointers: ctypes takes half the time for them, and this is called 120 times a token.
    told = (strips.address, x.data_ptr(), strips.columns, y_NR.data_ptr(), count, int8, torch.get_num_threads())
    if count and kernels.multiply(*told):
        raise CutawayError(f"no memory for {count} rows of {strips.columns} numbers")
    ran("multiply")
    return y_NR


def multiply_kernels(x_NC: Tensor, packed: Packed | Joined) -> Tensor:
    """x (N, C) times a packed (R, C) matrix -> (N, R) in x's dtype; fp32 activations. The gradient reaches x.

    A long prompt that comes in bfloat16 is multiplied so, by torch: somebody found that to pay (`narrow_kernels`).
    """
    if x_NC.dtype == torch.bfloat16 and x_NC.shape[0] >= MANY:
        return multiply_fast(x_NC, packed)
    y_NR = _multiply(x_NC, packed, False)
    return multiply_fast(x_NC, packed) if y_NR is None else y_NR


def multiply_kernels_int8(x_NC: Tensor, packed: Packed | Joined) -> Tensor:
    """The same with int8 activations, however many rows there are."""
    y_NR = _multiply(x_NC, packed, True)
    return multiply_fast(x_NC, packed) if y_NR is None else y_NR


def narrow_kernels(rows: int, formats: frozenset[str]) -> torch.dtype | None:
    """As `narrow`, but that kernels take fp32: only a long prompt is computed in bfloat16, where that pays."""
    if formats and rows < MANY and library() is not None:
        return None
    return narrow(rows, formats)


def _multiply(x_NC: Tensor, packed: Packed | Joined, int8: bool) -> Tensor | None:
    """The product, or None where it is torch's to make."""
    if not x_NC.is_cpu or (x_NC.requires_grad and torch.is_grad_enabled()) or library() is None:
        return None
    strips = packed.strips()
    if strips is None:
        return None
    y_NR = _times(x_NC, strips, int8)
    return y_NR if x_NC.dtype == torch.float32 else y_NR.to(x_NC.dtype)
