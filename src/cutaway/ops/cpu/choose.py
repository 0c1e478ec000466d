"""The k highest of each row's scores and their log-sum-exp, as a kernel: sampling then looks at a few, not at 50,000.

    logprob_i = x_i - log sum_j e^(x_j)
For draws at a temperature t the kernel tells  sum_j e^((x_j - m) / t)  as well, m the highest: of the row, and of each
run of 64 scores with m its own. Of rows that top-k, top-p or min-p cut it tells what they leave of the k, and the
running sums that a draw needs.
N rows · V vocabulary · k highest.   Read next: ops/cpu/choose.cpp, infer/sampler.py
"""

from __future__ import annotations

from collections.abc import Sequence
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
        ("limits", c_void_p),
        ("top_p", c_void_p),
        ("min_p", c_void_p),
        ("running", c_void_p),
        ("kept", c_void_p),
        ("row", c_int64),
        ("count", c_int32),
        ("width", c_int32),
        ("k", c_int32),
    )


class Draws:
    """How each row is drawn from: 1 / temperature (N,), and the cuts. `limits_N`: top-k, the whole width where there is
    none, 0 for a row that is not cut. `top_p_N` and `min_p_N`, float64: 1 and 0 where there are none."""

    def __init__(self, heats: Sequence[float], limits: Sequence[int], top_p: Sequence[float], min_p: Sequence[float]):
        self.heats_N = torch.tensor(heats, dtype=torch.float32)
        self.limits_N = torch.tensor(limits, dtype=torch.int32)
        # A nucleus of all: its sum in float32 may stay below 1.
        whole = [float("inf") if one >= 1.0 else one for one in top_p]
        self.top_p_N, self.min_p_N = (torch.tensor(one, dtype=torch.float64) for one in (whole, min_p))

    @classmethod
    def uncut(cls, heats: Sequence[float]) -> Draws:
        """At these temperatures, from all tokens."""
        rows = len(heats)
        return cls(heats, [0] * rows, [1.0] * rows, [0.0] * rows)


class Room:
    """What the kernel writes to: `values` (N, k), `indices` (N, k), `sums` (N,), and the structure that names them.
    With `draws`: `warm` (N, runs) and `warm_sums` (N,) beside `highest` (N, runs); `kept` (N,), how many of the k the
    cuts leave, 0 where more than k may be left, and `running` (N, k), the running sums of their weights."""

    def __init__(self, x_NV: Tensor, k: int, draws: Draws | None = None):
        self.shape = rows, width = x_NV.shape
        if not 0 < k <= width:
            raise BadInput(f"must be from 1 to {width}, is {k}", field="k")
        runs = -(-width // RUN)
        self.values, self.indices = torch.empty(rows, k), torch.empty(rows, k, dtype=torch.int32)
        self.highest, self.sums = torch.empty(rows, runs), torch.empty(rows)
        self.warm = self.warm_sums = self.running = self.kept = None
        if draws is not None:
            self.warm, self.warm_sums = torch.empty(rows, runs), torch.empty(rows)
            self.running, self.kept = torch.empty(rows, k, dtype=torch.float64), torch.empty(rows, dtype=torch.int32)
        self._between = (torch.empty(rows, runs), torch.empty(rows, width, dtype=torch.int32))
        self.structure = Top(row=x_NV.stride(0), count=rows, width=width, k=k)
        told = (self.highest, *self._between, self.values, self.indices, self.sums)
        for name, tensor in zip(("highest", "totals", "places", "values", "indices", "sums"), told, strict=True):
            setattr(self.structure, name, pointer(tensor))
        for name in ("warm", "warm_sums", "running", "kept"):
            setattr(self.structure, name, pointer(getattr(self, name)))
        self._draws: Draws | None = None
        self._take(x_NV, draws)
        self._operations: Operations | None = None

    def serves(self, x_NV: Tensor, k: int, draws: Draws | None = None) -> bool:
        """Whether it does for these, which it then is for: what was written before is written over."""
        if self.shape != x_NV.shape or self.structure.k != k or (self.warm is None) != (draws is None):
            return False
        self._take(x_NV, draws)
        return True

    def _take(self, x_NV: Tensor, draws: Draws | None) -> None:
        self._x_NV = x_NV
        self.structure.x, self.structure.row = pointer(x_NV), x_NV.stride(0)
        if draws is not None and draws is not self._draws:
            for name in ("heats", "limits", "top_p", "min_p"):
                setattr(self.structure, name, pointer(getattr(draws, f"{name}_N")))
        self._draws = draws

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
    room = Room(floats(x_NV), 1, Draws.uncut(heats_N.tolist()))
    room.run()
    assert room.warm is not None and room.warm_sums is not None
    return room.highest, room.warm, room.warm_sums


def cut_readable(x_NV: Tensor, k: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """What top-k, top-p and min-p leave of the k highest (N,), 0 where more than k may be left, and the running sums of
    their weights e^((x - highest) heat) (N, k), float64. Of rows that are not cut nothing is told: 0."""
    width = x_NV.shape[1]
    values_Nk = top_readable(x_NV, k)[0].double()
    weights_Nk = ((values_Nk - values_Nk[:, :1]) * draws.heats_N[:, None].double()).exp()
    weights_Nk = weights_Nk * (torch.arange(k) < draws.limits_N[:, None])
    running_Nk = weights_Nk.cumsum(1)
    everyone_N = warm_readable(x_NV.double(), draws.heats_N.double())[2]
    whole_N = torch.where(draws.limits_N == width, everyone_N, running_Nk[:, -1])
    inside_Nk = running_Nk - weights_Nk < (draws.top_p_N * whole_N)[:, None]
    left_Nk = inside_Nk & (weights_Nk >= draws.min_p_N[:, None]) & (torch.arange(k) < draws.limits_N[:, None])
    kept_N = left_Nk.sum(1).clamp(min=1)
    enough_N = (draws.limits_N <= k) | ((draws.limits_N == width) & (kept_N < k))
    return torch.where(enough_N & (draws.limits_N > 0), kept_N, 0), running_Nk


def cut_kernel(x_NV: Tensor, k: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """The same by the kernel; behind a row's limit its running sums are whatever was there. Raises NoKernels where
    there are none."""
    room = Room(floats(x_NV), k, draws)
    room.run()
    assert room.kept is not None and room.running is not None
    return room.kept, room.running
