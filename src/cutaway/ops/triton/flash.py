"""FlashAttention-2 on a GPU: the kernels of both passes, started on a ragged batch, as one differentiable call.

Dao 2023 (arXiv 2307.08691).   y = softmax(scale * q k^T) v, and its gradients, without the scores ever in memory.
`attend_tiled` (ops/tiled.py) is the same in plain torch, line by line; `Visible` says what is seen, so that causality,
prefixes, windows, sinks, ragged lengths and other sequences' keys are all here, soft caps and biases too.
Kept for the backward pass: q, k, v, y and one number for each query and head.
Departure: half precision multiplies weights that were rounded to it, as the paper's does; sums are in float32.
N tokens, flat · S key position · H query head · G kv head · K head dim · V width of values
Read next: ops/triton/flash_forward.py, ops/triton/tiles.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cutaway.base.errors import BadInput
from cutaway.ops.attend import Bias
from cutaway.ops.tiled import Tiles
from cutaway.ops.triton.flash_backward import flash_backward_keys, flash_backward_queries
from cutaway.ops.triton.flash_forward import flash_forward
from cutaway.ops.triton.launch import block, on_device, refuse_wide
from cutaway.ops.triton.tiles import Plan, plan
from cutaway.ops.visible import Visible

# By the bytes of one head's row. Compiled for an H100 these take at most 101 KiB of shared memory, which is there on
# data-centre GPUs since the A100; which size is the fastest has not been measured on any.
SIZES = (
    (128, Tiles(queries=64, keys=64)),
    (256, Tiles(queries=64, keys=32)),
    (512, Tiles(queries=32, keys=32)),
    (math.inf, Tiles(queries=16, keys=16)),
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What the kernels are compiled for beside widths and dtypes, and the tables that they read."""

    see: Visible
    scale: float
    softcap: float | None
    tiles: Tiles

    def plan(self, q_NHK: Tensor) -> Plan:
        return plan(self.see, q_NHK.shape[1], self.tiles, q_NHK.device)

    def told(self, q_NHK: Tensor, k_SGK: Tensor, v_SGV: Tensor, biased: bool) -> dict[str, Any]:
        """The arguments that all three kernels have in common, by name."""
        return {
            "heads": q_NHK.shape[1],
            "groups": k_SGK.shape[1],
            "K": q_NHK.shape[2],
            "V": v_SGV.shape[2],
            "SCALE": self.scale,
            "SOFTCAP": self.softcap,
            "CAUSAL": self.see.causal,
            "WINDOW": self.see.window,
            "SINKS": self.see.sinks,
            "BIASED": biased,
            "BLOCK_T": block(self.tiles.queries),
            "BLOCK_S": block(self.tiles.keys),
            "BLOCK_K": block(q_NHK.shape[2]),
            "BLOCK_V": block(v_SGV.shape[2]),
        }


def attend_flash(
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
    """Arguments and result as `attend_readable`. Raises BadInput for a dropout, for heads wider than 256 numbers, and
    for tensors that no GPU holds."""
    if dropout:
        raise BadInput("attention in Triton has none: take naive or sdpa", field="dropout")
    row = max(q_NHK.shape[2], v_SGK.shape[2]) * q_NHK.dtype.itemsize
    tiles = next(tiles for most, tiles in SIZES if row <= most)
    return attend_in(tiles, q_NHK, k_SGK, v_SGK, see, scale=scale, softcap=softcap, bias=bias)


def attend_in(
    tiles: Tiles,
    q_NHK: Tensor,
    k_SGK: Tensor,
    v_SGK: Tensor,
    see: Visible,
    *,
    scale: float,
    softcap: float | None = None,
    bias: Bias | None = None,
) -> Tensor:
    """`attend_flash` in tiles of a given size: powers of two from 16 on, which is what a GPU multiplies."""
    if any(size < 16 or size & (size - 1) for size in (tiles.queries, tiles.keys)):
        raise BadInput(f"a power of two from 16 on, not {tiles.queries} by {tiles.keys}", field="Tiles")
    refuse_wide(q_NHK.shape[2], v_SGK.shape[2])
    dtype = torch.promote_types(torch.promote_types(q_NHK.dtype, k_SGK.dtype), v_SGK.dtype)
    given = (tensor.to(dtype).contiguous() for tensor in (q_NHK, k_SGK, v_SGK))
    rule = Rule(see=see, scale=scale, softcap=softcap, tiles=tiles)
    return _Flash.apply(*given, _end_to_end(bias, see), rule).to(q_NHK.dtype)


def _end_to_end(bias: Bias | None, see: Visible) -> Tensor | None:
    """The biases of all sequences, each (H, T, S), as one line of numbers."""
    if bias is None or not see.queries:
        return None
    return torch.cat([bias(index).flatten() for index in range(len(see.queries))])


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_NHK: Tensor, k_SGK: Tensor, v_SGV: Tensor, bias: Tensor | None, rule: Rule) -> Tensor:
        wide = torch.promote_types(q_NHK.dtype, torch.float32)
        y_NHV = q_NHK.new_empty(*q_NHK.shape[:2], v_SGV.shape[2])
        lse_NH = q_NHK.new_empty(q_NHK.shape[:2], dtype=wide)
        tables, told = rule.plan(q_NHK), rule.told(q_NHK, k_SGK, v_SGV, bias is not None)
        grid = (len(tables.queries_X5), q_NHK.shape[1])
        if y_NHV.numel():
            with on_device(q_NHK):
                some = q_NHK if bias is None else bias  # a pointer must point somewhere
                given = (q_NHK, k_SGK, v_SGV, some, y_NHV, lse_NH, tables.sequences_B6, tables.queries_X5)
                flash_forward[grid](*given, **told)
        ctx.rule = rule
        ctx.save_for_backward(q_NHK, k_SGK, v_SGV, bias, y_NHV, lse_NH)
        return y_NHV

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NHV: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q_NHK, k_SGK, v_SGV, bias, y_NHV, lse_NH = ctx.saved_tensors
        dq, dk, dv = (torch.zeros_like(tensor) for tensor in (q_NHK, k_SGK, v_SGV))
        learns = ctx.needs_input_grad[3]
        dbias = torch.zeros_like(bias) if learns else None
        tables, told = ctx.rule.plan(q_NHK), ctx.rule.told(q_NHK, k_SGK, v_SGV, bias is not None)
        if y_NHV.numel() and k_SGK.numel():
            dy_NHV = dy_NHV.contiguous()
            mean_NH = (dy_NHV.to(lse_NH.dtype) * y_NHV).sum(-1)
            some = q_NHK if bias is None else bias
            given = (q_NHK, k_SGK, v_SGV, some, dy_NHV, mean_NH, lse_NH)
            with on_device(q_NHK):
                outputs = (dq, dq if dbias is None else dbias, tables.sequences_B6, tables.queries_X5)
                grid = (len(tables.queries_X5), q_NHK.shape[1])
                flash_backward_queries[grid](*given, *outputs, **told, BIAS_LEARNS=learns)
                grid = (len(tables.keys_X4), k_SGK.shape[1])
                flash_backward_keys[grid](*given, dk, dv, tables.sequences_B6, tables.keys_X4, **told)
        return dq, dk, dv, dbias, None
