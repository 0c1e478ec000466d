"""Causal attention in training as kernels, forward and back, for whole sequences that lie end to end.

Of 12 texts of 64 tokens, 4 heads of 32, on one thread: 0.42 and 0.74 ms where torch's kernels take 0.56 and 1.05; of 8
texts of 256, 8 heads of 64: 9.0 and 22 ms in place of 15 and 35.
N tokens, flat · H query head · G kv head · K head dim.   Read next: ops/cpu/causal.cpp, ops/attend.py
"""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_void_p
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cutaway.ops.attend import Bias, attend_readable, attend_sdpa
from cutaway.ops.cpu import list as lists
from cutaway.ops.cpu.list import alone, pointer
from cutaway.ops.visible import Visible

LANES = 16  # heads are so many numbers wide, or a multiple
LONGEST = 4096  # tokens of a sequence: beyond, a tile's scores leave the nearer caches


class Causal(Structure):
    """The arguments of `causal` and `causal_back` (causal.cpp)."""

    _fields_ = (
        *((name, c_void_p) for name in ("q", "k", "v", "y", "tops", "dy", "dq", "dk", "dv", "starts")),
        *((name, c_int32) for name in ("sequences", "tokens", "heads", "kv_heads", "width")),
        ("scale", c_float),
    )


def causal_readable(q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """Each token's mean of the values up to its own, (N, H, K), for sequences of these lengths."""
    return attend_readable(q_NHK, k_NGK, v_NGK, Visible(queries=lengths, keys=lengths), scale=scale)


def causal_kernel(q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """The same by the kernels, with gradients; float32, K a multiple of 16. Raises NoKernels where there are none."""
    return _Causal.apply(q_NHK.contiguous(), k_NGK.contiguous(), v_NGK.contiguous(), lengths, scale)  # type: ignore


def attend_kernels(
    q_NHK: Tensor,
    k_SGK: Tensor,
    v_SGK: Tensor,
    see: Visible,
    *,
    scale: float,
    softcap: float | None = None,
    dropout: float = 0.0,
    bias: Bias | None = None,
) -> Tensor:
    """`attend_sdpa`, by the kernels where they have it: in training, of whole texts read from left to right."""
    odd = softcap is not None or dropout or bias is not None or not torch.is_grad_enabled()
    if odd or not _takes(q_NHK, k_SGK, v_SGK, see) or lists.library() is None:
        return attend_sdpa(q_NHK, k_SGK, v_SGK, see, scale=scale, softcap=softcap, dropout=dropout, bias=bias)
    q, k, v = q_NHK.float(), k_SGK.float(), v_SGK.float()
    return causal_kernel(q, k, v, see.queries, scale).to(q_NHK.dtype)


def _takes(q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, see: Visible) -> bool:
    fits = q_NHK.is_cpu and q_NHK.dtype.itemsize <= 4 and k_SGK.shape == v_SGK.shape and q_NHK.shape[2] % LANES == 0
    return fits and max(see.queries, default=0) <= LONGEST and _whole(see)


@lru_cache(maxsize=64)
def _whole(see: Visible) -> bool:
    return see.queries == see.keys and all(map(see.plain_causal, range(len(see.queries))))


@lru_cache(maxsize=64)
def _starts(lengths: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor, lengths: tuple[int, ...], scale: float
    ) -> Tensor:
        y_NHK, tops_HN2 = torch.empty_like(q_NHK), q_NHK.new_empty(q_NHK.shape[1], q_NHK.shape[0], 2)
        ctx.starts, ctx.scale = _starts(lengths), scale
        ctx.save_for_backward(q_NHK, k_NGK, v_NGK, y_NHK, tops_HN2)
        alone("causal", _told(ctx.starts, scale, q_NHK, k_NGK, v_NGK, y_NHK, tops_HN2))
        return y_NHK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_NHK: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        kept = q_NHK, k_NGK, v_NGK, *_ = ctx.saved_tensors
        slope_NHK = slope_NHK.contiguous()
        made = torch.empty_like(q_NHK), torch.zeros_like(k_NGK), torch.zeros_like(v_NGK)
        alone("causal_back", _told(ctx.starts, ctx.scale, *kept, slope_NHK, *made))
        return (*made, None, None)


def _told(starts: Tensor, scale: float, *tensors: Tensor) -> Causal:
    """What the kernels are told: right for as long as the caller keeps all these tensors."""
    q_NHK, k_NGK = tensors[:2]
    tokens, heads, width = q_NHK.shape
    pointers = [pointer(one) for one in tensors] + [None] * (9 - len(tensors))
    sizes = len(starts) - 1, tokens, heads, k_NGK.shape[1], width
    return Causal(*pointers, pointer(starts), *sizes, scale)
