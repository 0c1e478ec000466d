"""Activations and gated products as one kernel: SwiGLU, GeGLU (exact and tanh), plain GELU, ReLU and the rest.

Formulas and papers: ops/activation.py, whose readable forms are the torch siblings.
N tokens, flat · F hidden dim.   Read next: ops/cpu/gate.cpp, ops/cpu/list.py
"""

from __future__ import annotations

from ctypes import Structure, c_int32, c_int64, c_void_p

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops import activation
from cutaway.ops.cpu.list import Activations, alone, floats, pointer

# In the order of gate.cpp's enum.
ACTIVATIONS = ("sigmoid", "tanh", "relu", "gelu", "gelu_tanh", "quick_gelu", "silu")
NOTHING = len(ACTIVATIONS)
"""The number of no activation at all: rows are only laid out."""


class Gate(Structure):
    """The arguments of `gate` (gate.cpp)."""

    _fields_ = (
        ("gate", c_void_p),
        ("up", c_void_p),
        ("y", c_void_p),
        ("tiles", Activations),
        ("gate_row", c_int64),
        ("up_row", c_int64),
        ("y_row", c_int64),
        ("count", c_int32),
        ("width", c_int32),
        ("activation", c_int32),
    )


def numbered(name: str) -> int:
    """The kernel's number of an activation; BadInput for one that it lacks."""
    if name not in ACTIVATIONS:
        raise BadInput(f'no kernel has the activation "{name}": {", ".join(ACTIVATIONS)}', field="activation")
    return ACTIVATIONS.index(name)


def gate_readable(gate_NF: Tensor, up_NF: Tensor | None, name: str) -> Tensor:
    """activation(gate) * up, or activation(gate) alone where `up` is None; (N, F)."""
    return activation.READABLE[name](gate_NF) if up_NF is None else activation.gate_readable(gate_NF, up_NF, name)


def gate_kernel(gate_NF: Tensor, up_NF: Tensor | None, name: str) -> Tensor:
    """The same by the kernel, in float32. Raises NoKernels where there are none."""
    gate_NF, width = floats(gate_NF), gate_NF.shape[-1]
    up_NF = None if up_NF is None else floats(up_NF)
    y_NF = torch.empty_like(gate_NF)
    rows = gate_NF.numel() // width
    told = Gate(
        *map(pointer, (gate_NF, up_NF, y_NF)), Activations(), *(width, width, width, rows, width, numbered(name))
    )
    alone("gate", told)
    return y_NF
