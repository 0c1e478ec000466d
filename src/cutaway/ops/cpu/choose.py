"""The k highest of each row's scores and their log-sum-exp, as a kernel: sampling then looks at a few, not at 50,000.

    logprob_i = x_i - log sum_j e^(x_j)
N rows · V vocabulary · k highest.   Read next: ops/cpu/choose.cpp, infer/sampler.py
"""

from __future__ import annotations

from ctypes import Structure, c_int32, c_int64, c_void_p

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.list import alone, floats, pointer

RUN = 64


class Top(Structure):
    """The arguments of `top_runs` and `top_chosen` (choose.cpp)."""

    _fields_ = (
        ("x", c_void_p),
        ("highest", c_void_p),
        ("totals", c_void_p),
        ("places", c_void_p),
        ("values", c_void_p),
        ("indices", c_void_p),
        ("sums", c_void_p),
        ("row", c_int64),
        ("count", c_int32),
        ("width", c_int32),
        ("k", c_int32),
    )


class Room:
    """What the kernel writes to: `values` (N, k), `indices` (N, k), `sums` (N,), and the structure that names them."""

    def __init__(self, x_NV: Tensor, k: int):
        rows, width = x_NV.shape
        if not 0 < k <= width:
            raise BadInput(f"must be from 1 to {width}, is {k}", field="k")
        runs = -(-width // RUN)
        self.values, self.indices = torch.empty(rows, k), torch.empty(rows, k, dtype=torch.int32)
        self.sums = torch.empty(rows)
        self._between = (torch.empty(rows, runs), torch.empty(rows, runs), torch.empty(rows, width, dtype=torch.int32))
        written = (*self._between, self.values, self.indices, self.sums)
        self.structure = Top(*map(pointer, (x_NV, *written)), x_NV.stride(0), rows, width, k)


def top_readable(x_NV: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k highest scores (N, k) from the highest down, their places (N, k; of equal ones the first comes first), and
    log-sum-exp (N,), NaN where a score is NaN or infinite."""
    values, indices = torch.sort(x_NV, dim=-1, descending=True, stable=True)
    unsound_N = ~x_NV.isfinite().all(-1)
    return values[:, :k], indices[:, :k], x_NV.logsumexp(-1).masked_fill(unsound_N, float("nan"))


def top_kernel(x_NV: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same by the kernel, in float32. Raises NoKernels where there are none, BadInput for an impossible k."""
    x_NV = floats(x_NV)
    room = Room(x_NV, k)
    alone("top_runs", room.structure, "top_chosen")
    return room.values, room.indices.long(), room.sums
