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

import ctypes
from ctypes import byref

import torch
from torch import Tensor

from cutaway.base.errors import BadInput, CutawayError
from cutaway.ops.cpu.build import library
from cutaway.ops.cpu.pack import Strips, rounded
from cutaway.ops.multiply.fast import multiply_exact
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
    """The same as `times_int8_readable` by the kernel, which takes no plain 16-bit weights: BadInput."""
    if strips.kind.bits == 16:
        raise BadInput("plain 16-bit weights are multiplied by fp32 activations only")
    return _times(x_NC, strips, True)


def _times(x_NC: Tensor, strips: Strips, int8: bool) -> Tensor:
    kernels = library()
    if kernels is None:
        raise CutawayError("there are no kernels here (`cutaway doctor` says why)")
    if x_NC.dim() != 2 or x_NC.shape[1] != strips.columns or not x_NC.is_cpu:
        raise BadInput(
            f"rows of {strips.columns} numbers in memory are needed, not {tuple(x_NC.shape)} on {x_NC.device}"
        )
    x = x_NC.detach().float().contiguous()
    y_NR = torch.empty(x.shape[0], strips.rows, dtype=torch.float32)
    if x.shape[0] and kernels.multiply(
        byref(strips.struct),
        ctypes.c_void_p(x.data_ptr()),
        strips.columns,
        ctypes.c_void_p(y_NR.data_ptr()),
        x.shape[0],
        int8,
        torch.get_num_threads(),
    ):
        raise CutawayError(f"no memory for {x.shape[0]} rows of {strips.columns} numbers")
    return y_NR


def multiply_kernels(x_NC: Tensor, packed: Packed | Joined) -> Tensor:
    """x (N, C) times a packed (R, C) matrix -> (N, R) in x's dtype; fp32 activations. The gradient reaches x."""
    y_NR = _multiply(x_NC, packed, False)
    return multiply_exact(x_NC, packed) if y_NR is None else y_NR


def multiply_kernels_int8(x_NC: Tensor, packed: Packed | Joined) -> Tensor:
    """The same with int8 activations."""
    y_NR = _multiply(x_NC, packed, True)
    return multiply_exact(x_NC, packed) if y_NR is None else y_NR


def _multiply(x_NC: Tensor, packed: Packed | Joined, int8: bool) -> Tensor | None:
    """The product, or None where it is torch's to make."""
    if not x_NC.is_cpu or (x_NC.requires_grad and torch.is_grad_enabled()) or library() is None:
        return None
    strips = packed.strips()
    return None if strips is None else _times(x_NC, strips, int8).to(x_NC.dtype)
