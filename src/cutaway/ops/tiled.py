"""FlashAttention as it reads: attention a tile at a time, so that all scores are never there at once.

Dao et al. 2022 (arXiv 2205.14135), algorithms 1 and 4; in the order of FlashAttention-2 (arXiv 2307.08691, section 3.1:
queries outside, keys inside). Online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867), for each tile j of keys:
    m_j = max(m_(j-1), max S_j),   l_j = e^(m_(j-1) - m_j) l_(j-1) + sum e^(S_j - m_j),
    o_j = e^(m_(j-1) - m_j) o_(j-1) + e^(S_j - m_j) V_j,   and at the end y = o / l,   lse = m + log l.
Backwards each tile is computed again from the lse: P = e^(S - lse), dV = P^T dY, dS = P (dY V^T - rowsum(dY y)).
Kept for it: q, k, v, y and one lse for each query and head. Tiles in which nothing is seen are skipped.
Departures: sequences one after the other, 128 by 128 in plain torch. A bias is what its caller made: (H, T, S).
N tokens, flat · T query position · S key position · H query head · G kv head · R query heads of one · K head dim
Read next: ops/attend.py, ops/visible.py
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.ops.attend import Bias
from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How many queries and keys a tile has."""

    queries: int = 128
    keys: int = 128

    def __post_init__(self) -> None:
        at_least(self, 1, "queries", "keys")

    def of(self, see: Visible, index: int) -> Iterator[tuple[range, list[range]]]:
        """The tiles of one sequence: some queries, and the tiles of keys of which they may see anything."""
        for start in range(0, see.queries[index], self.queries):
            rows = range(start, min(start + self.queries, see.queries[index]))
            reach = see.reach(index, rows)
            yield rows, [part[at : at + self.keys] for part in reach for at in range(0, len(part), self.keys)]


class OnlineSoftmax:
    """The mean of values weighted by softmax(scores), while scores and values come a tile at a time."""

    def __init__(self, like_GRTK: Tensor, width: int):
        shape = like_GRTK.shape[:-1]
        self.top = like_GRTK.new_full((*shape, 1), -math.inf)  # m: the largest score so far
        self.total = like_GRTK.new_zeros(*shape, 1)  # l: the sum of e^(score - m)
        self.summed = like_GRTK.new_zeros(*shape, width)  # o: the sum of e^(score - m) v

    def take(self, scores_GRTS: Tensor, v_G1SK: Tensor) -> None:
        """One more tile. What was summed by a smaller top shrinks to the new one."""
        top = torch.maximum(self.top, scores_GRTS.amax(-1, keepdim=True))
        finite = top.masked_fill(top == -math.inf, 0.0)  # who has seen nothing yet: e^(-inf - 0) is 0
        shrink, weights_GRTS = torch.exp(self.top - finite), torch.exp(scores_GRTS - finite)
        self.total = shrink * self.total + weights_GRTS.sum(-1, keepdim=True)
        self.summed = shrink * self.summed + weights_GRTS @ v_G1SK
        self.top = top

    def result(self) -> tuple[Tensor, Tensor]:
        """The mean, and the lse. Who has seen nothing gets zeros, and infinity, which makes its weights zeros again."""
        nothing = self.total == 0
        lse = (self.top + self.total.log()).masked_fill(nothing, math.inf)
        return self.summed / self.total.masked_fill(nothing, 1.0), lse


@dataclass(frozen=True, kw_only=True, eq=False)
class End:
    """What the backward pass begins with: the output's gradient, its product with the output, and the lse."""

    dy_THK: Tensor
    mean_TH1: Tensor
    lse_TH1: Tensor


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Attention of one sequence: what is seen, and what scores are made by beside q and k."""

    see: Visible
    index: int
    scale: float
    softcap: float | None
    tiles: Tiles

    def forward(self, q_THK: Tensor, k_SGK: Tensor, v_SGK: Tensor, bias_HTS: Tensor | None) -> tuple[Tensor, Tensor]:
        """The output (T, H, width of v) in q's dtype and the lse (T, H, 1) in float32 or wider."""
        groups, outputs, lses = k_SGK.shape[1], [], []
        for queries, tiles in self.tiles.of(self.see, self.index):
            q_GRTK = _by_group(q_THK, queries, groups)
            softmax = OnlineSoftmax(q_GRTK, v_SGK.shape[2])
            for keys in tiles:
                scores_GRTS, _ = self.scores(q_GRTK, _by_group(k_SGK, keys, groups), bias_HTS, queries, keys)
                softmax.take(scores_GRTS, _by_group(v_SGK, keys, groups))
            mean_GRTK, lse_GRT1 = softmax.result()
            outputs.append(_by_row(mean_GRTK).to(q_THK.dtype))
            lses.append(_by_row(lse_GRT1))
        if not outputs:
            return q_THK.new_zeros(0, q_THK.shape[1], v_SGK.shape[2]), q_THK.new_zeros(0, q_THK.shape[1], 1)
        return torch.cat(outputs), torch.cat(lses)

    def backward(
        self, q_THK: Tensor, k_SGK: Tensor, v_SGK: Tensor, bias_HTS: Tensor | None, end: End, dbias_HTS: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of q, k and v in float32 or wider; that of the bias is written where asked for."""
        groups = k_SGK.shape[1]
        dq, dk, dv = (torch.zeros_like(given, dtype=end.mean_TH1.dtype) for given in (q_THK, k_SGK, v_SGK))
        for queries, tiles in self.tiles.of(self.see, self.index):
            q_GRTK, dy_GRTK, mean_GRT1, lse_GRT1 = (
                _by_group(given, queries, groups) for given in (q_THK, end.dy_THK, end.mean_TH1, end.lse_TH1)
            )
            rows = slice(queries.start, queries.stop)
            for keys in tiles:
                columns = slice(keys.start, keys.stop)
                k_G1SK, v_G1SK = _by_group(k_SGK, keys, groups), _by_group(v_SGK, keys, groups)
                scores_GRTS, slope_GRTS = self.scores(q_GRTK, k_G1SK, bias_HTS, queries, keys)
                weights_GRTS = torch.exp(scores_GRTS - lse_GRT1)
                ds_GRTS = weights_GRTS * (dy_GRTK @ v_G1SK.transpose(-1, -2) - mean_GRT1)
                if dbias_HTS is not None:
                    dbias_HTS[:, rows, columns] = ds_GRTS.flatten(0, 1).to(dbias_HTS.dtype)
                ds_GRTS = ds_GRTS * self.scale if slope_GRTS is None else ds_GRTS * slope_GRTS * self.scale
                # One key and value serve R heads: their gradients are sums over these.
                dv[columns] += (weights_GRTS.transpose(-1, -2) @ dy_GRTK).sum(1).transpose(0, 1)
                dk[columns] += (ds_GRTS.transpose(-1, -2) @ q_GRTK).sum(1).transpose(0, 1)
                dq[rows] += _by_row(ds_GRTS @ k_G1SK)
        return dq, dk, dv

    def scores(
        self, q_GRTK: Tensor, k_G1SK: Tensor, bias_HTS: Tensor | None, queries: range, keys: range
    ) -> tuple[Tensor, Tensor | None]:
        """The scores of a tile, minus infinity where nothing is seen, and the slope that a soft cap has at each."""
        scores_GRTS, slope_GRTS = (q_GRTK @ k_G1SK.transpose(-1, -2)) * self.scale, None
        if self.softcap is not None:
            share_GRTS = torch.tanh(scores_GRTS / self.softcap)
            scores_GRTS, slope_GRTS = self.softcap * share_GRTS, 1 - share_GRTS**2
        if bias_HTS is not None:
            tile_HTS = bias_HTS[:, queries.start : queries.stop, keys.start : keys.stop]
            scores_GRTS = scores_GRTS + tile_HTS.unflatten(0, (k_G1SK.shape[0], -1))
        hidden_TS = ~self.see.tile(self.index, queries, keys, q_GRTK.device)
        return scores_GRTS.masked_fill(hidden_TS, -math.inf), slope_GRTS


def attend_tiled(
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
    """Arguments and result as `attend_readable`. Raises BadInput for a dropout: what is computed twice would have to
    be drawn twice alike."""
    if dropout:
        raise BadInput("attention in tiles has none: take naive or sdpa", field="dropout")
    return attend_in(Tiles(), q_NHK, k_SGK, v_SGK, see, scale=scale, softcap=softcap, bias=bias)


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
    """`attend_tiled` in tiles of a given size."""
    outputs = []
    split = zip(q_NHK.split(see.queries), k_SGK.split(see.keys), v_SGK.split(see.keys), strict=True)
    for index, (q_THK, k_sGK, v_sGK) in enumerate(split):
        rule = Rule(see=see, index=index, scale=scale, softcap=softcap, tiles=tiles)
        outputs.append(_Tiled.apply(q_THK, k_sGK, v_sGK, None if bias is None else bias(index), rule))
    if len(outputs) == 1:
        return outputs[0]
    return torch.cat(outputs) if outputs else q_NHK.new_zeros(0, q_NHK.shape[1], v_SGK.shape[2])


class _Tiled(torch.autograd.Function):
    """One sequence. The graph keeps what went in, what came out and the lse, whatever the number of pairs."""

    @staticmethod
    def forward(ctx: Any, q_THK: Tensor, k_SGK: Tensor, v_SGK: Tensor, bias_HTS: Tensor | None, rule: Rule) -> Tensor:
        # Under autocast scores would be rounded to half precision, which the lse is not made of.
        with torch.autocast(q_THK.device.type, enabled=False):
            y_THK, lse_TH1 = rule.forward(q_THK, k_SGK, v_SGK, bias_HTS)
        ctx.rule = rule
        ctx.save_for_backward(q_THK, k_SGK, v_SGK, bias_HTS, y_THK, lse_TH1)
        return y_THK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_THK: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q_THK, k_SGK, v_SGK, bias_HTS, y_THK, lse_TH1 = ctx.saved_tensors
        dbias_HTS = torch.zeros_like(bias_HTS) if ctx.needs_input_grad[3] else None
        with torch.autocast(q_THK.device.type, enabled=False):
            mean_TH1 = (dy_THK.to(lse_TH1.dtype) * y_THK).sum(-1, keepdim=True)
            ends = End(dy_THK=dy_THK, mean_TH1=mean_TH1, lse_TH1=lse_TH1)
            dq, dk, dv = ctx.rule.backward(q_THK, k_SGK, v_SGK, bias_HTS, ends, dbias_HTS)
        return dq.to(q_THK.dtype), dk.to(k_SGK.dtype), dv.to(v_SGK.dtype), dbias_HTS, None


def _by_group(x_THK: Tensor, rows: range, groups: int) -> Tensor:
    """Some rows (T, H, K) as (G, R, T, K), in float32 or wider."""
    wide = torch.promote_types(x_THK.dtype, torch.float32)
    return x_THK[rows.start : rows.stop].to(wide).unflatten(1, (groups, -1)).permute(1, 2, 0, 3)


def _by_row(x_GRTK: Tensor) -> Tensor:
    """(G, R, T, K) as rows (T, H, K)."""
    return x_GRTK.permute(2, 0, 1, 3).flatten(1, 2)
