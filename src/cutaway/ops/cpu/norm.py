"""Norms of rows as one kernel: LayerNorm, RMSNorm, and Gemma's 1 + weight; the result may be added to what is there.

Equations and papers: ops/norm.py, whose readable forms are the torch siblings.
N rows · D columns.   Read next: ops/cpu/norm.cpp, ops/cpu/list.py
"""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_int64, c_void_p

import torch
from torch import Tensor

from cutaway.ops.cpu.list import Activations, alone, floats, pointer
from cutaway.ops.norm import layer_norm_readable, rms_norm_readable


class Norm(Structure):
    """The arguments of `norm` (norm.cpp)."""

    _fields_ = (
        ("x", c_void_p),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("y", c_void_p),
        ("chosen", c_void_p),
        ("tiles", Activations),
        ("x_outer", c_int64),
        ("y_outer", c_int64),
        ("count", c_int32),
        ("inner", c_int32),
        ("width", c_int32),
        ("centred", c_int32),
        ("adds", c_int32),
        ("eps", c_float),
        ("offset", c_float),
    )


def norm_readable(
    x_ND: Tensor,
    weight_D: Tensor,
    bias_D: Tensor | None = None,
    *,
    eps: float,
    offset: float = 0.0,
    centred: bool = False,
) -> Tensor:
    """Layer norm where `centred`, else RMS norm with `offset` added to its weight; (N, D) -> (N, D)."""
    if centred:
        return layer_norm_readable(x_ND, weight_D + offset, bias_D, eps=eps)
    y_ND = rms_norm_readable(x_ND, weight_D, eps=eps, offset=offset)
    return y_ND if bias_D is None else y_ND + bias_D


def norm_kernel(
    x_ND: Tensor,
    weight_D: Tensor,
    bias_D: Tensor | None = None,
    *,
    eps: float,
    offset: float = 0.0,
    centred: bool = False,
) -> Tensor:
    """The same by the kernel, in float32; any leading axes. Raises NoKernels where there are none."""
    x_ND, weight_D = floats(x_ND), floats(weight_D)
    bias_D = None if bias_D is None else floats(bias_D)
    y_ND, width = torch.empty_like(x_ND), x_ND.shape[-1]
    rows = x_ND.numel() // width
    told = Norm(
        *map(pointer, (x_ND, weight_D, bias_D, y_ND, None)),
        Activations(),
        *(width, width, rows, 1, width, centred, 0, eps, offset),
    )
    alone("norm", told)
    return y_ND
