"""The k highest of each row's scores and their log-sum-exp, as a kernel: sampling then looks at a few, not at 50,000.

    logprob_i = x_i - log sum_j e^(x_j)
For draws at a temperature t the kernel tells  sum_j e^((x_j - m) / t)  as well, m the highest: of the row, and of each
run of 64 scores with m its own.
N rows · V vocabulary · k highest.   Read next: ops/cpu/choose.cpp, infer/sampler.py
"""

from __future__ import annotations

from ctypes import Structure, c_int32, c_int64, c_void_p

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.list import Operations, floats, pointer

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
        ("heats", c_void_p),
        ("warm", c_void_p),
        ("warm_sums", c_void_p),
        ("row", c_int64),
        ("count", c_int32),
        ("width", c_int32),
        ("k", c_int32),
    )


class Room:
    """What the kernel writes to: `values` (N, k), `indices` (N, k), `sums` (N,), and the structure that names them.
    With `heats` (N,), 1 / temperature of each row: `warm` (N, runs) and `warm_sums` (N,) beside `highest` (N, runs)."""

    def __init__(self, x_NV: Tensor, k: int, heats_N: Tensor | None = None):
        self.shape = rows, width = x_NV.shape
        if not 0 < k <= width:
            raise BadInput(f"must be from 1 to {width}, is {k}", field="k")
        runs = -(-width // RUN)
        self.values, self.indices = torch.empty(rows, k), torch.empty(rows, k, dtype=torch.int32)
        self.highest, self.sums = torch.empty(rows, runs), torch.empty(rows)
        self.warm = self.warm_sums = None
        if heats_N is not None:
            self.warm, self.warm_sums = torch.empty(rows, runs), torch.empty(rows)
        self._between = (torch.empty(rows, runs), torch.empty(rows, width, dtype=torch.int32))
        self._given = (x_NV, heats_N)
        told = (x_NV, self.highest, *self._between, self.values, self.indices, self.sums)
        warmth = (heats_N, self.warm, self.warm_sums)
        self.structure = Top(*map(pointer, (*told, *warmth)), x_NV.stride(0), rows, width, k)
        self._operations: Operations | None = None

    def serves(self, x_NV: Tensor, k: int, heats_N: Tensor | None = None) -> bool:
        """Whether it does for these, which it then is for: what was written before is written over."""
        if self.shape != x_NV.shape or self.structure.k != k or (self.warm is None) != (heats_N is None):
            return False
        self._given = (x_NV, heats_N)
        self.structure.x, self.structure.row, self.structure.heats = pointer(x_NV), x_NV.stride(0), pointer(heats_N)
        return True

    def run(self) -> None:
        """Raises NoKernels where there are none."""
        if self._operations is None:
            self._operations = Operations()
            for name in ("top_runs", "top_chosen"):
                self._operations.append(name, self.structure)
        self._operations.run()


def top_readable(x_NV: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k highest scores (N, k) from the highest down, their places (N, k; of equal ones the first comes first), and
    log-sum-exp (N,), NaN where a score is NaN or infinite."""
    values, indices = torch.sort(x_NV, dim=-1, descending=True, stable=True)
    unsound_N = ~x_NV.isfinite().all(-1)
    return values[:, :k], indices[:, :k], x_NV.logsumexp(-1).masked_fill(unsound_N, float("nan"))


def top_kernel(x_NV: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same by the kernel, in float32. Raises NoKernels where there are none, BadInput for an impossible k."""
    room = Room(floats(x_NV), k)
    room.run()
    return room.values, room.indices.long(), room.sums


def warm_readable(x_NV: Tensor, heats_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a draw at a temperature is made from, heat = 1 / temperature of each row: the highest score of each run of
    64 (N, runs), the sum of e^((x - that) heat) of each run (N, runs), and of the row (N,), with the row's highest."""
    rows, width = x_NV.shape
    padded_NRC = torch.nn.functional.pad(x_NV, (0, -width % RUN), value=-torch.inf).view(rows, -1, RUN)
    highest_NR, heats_N11 = padded_NRC.amax(-1), heats_N[:, None, None]
    warm_NR = ((padded_NRC - highest_NR[..., None]) * heats_N11).exp().sum(-1)
    above_NV = x_NV - x_NV.amax(-1, keepdim=True)
    return highest_NR, warm_NR, (above_NV * heats_N[:, None]).exp().sum(-1)


def warm_kernel(x_NV: Tensor, heats_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same by the kernel, in float32. Raises NoKernels where there are none."""
    room = Room(floats(x_NV), 1, floats(heats_N))
    room.run()
    assert room.warm is not None and room.warm_sums is not None
    return room.highest, room.warm, room.warm_sums
