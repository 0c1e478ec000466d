"""Attention: each query takes a weighted mean of the values it may see.

Vaswani et al. 2017 (arXiv 1706.03762), equation 1.   y = softmax(scale * q k^T) v
Grouped queries (arXiv 2305.13245): query head h reads key head h // (H / G).
Soft cap (Gemma 2, arXiv 2408.00118, section 2): scores become cap * tanh(scores / cap) before the softmax.
Bias (T5, arXiv 1910.10683, section 2.1): a number for each head, query and key, added to the (capped) scores.
Departure: sequences lie end to end (no padding); `Visible` holds their boundaries.
N tokens, flat · T query position · S key position · H query head · G kv head · K head dim · B batch
Read next: ops/visible.py, nn/attention/grouped.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.ops.multiply.narrow import bfloat16_pays
from cutaway.ops.visible import Visible

# What is added to the scores of one sequence, by its index: (H, T, S). Sequences of equal T and S have equal ones.
Bias = Callable[[int], Tensor]

RUN = 128
"""Queries that a long prompt is cut into on a CPU; 64 and 256 measured no faster."""

SCORES = 2**22
"""Scores that a run in bfloat16 holds at once at most, of all heads: 16 MiB."""


@dataclass(frozen=True, kw_only=True)
class Tilewise:
    """A `Bias` of which some queries and keys can be had alone: for a long text the whole of it is too large.

    `tile`: (sequence, queries, keys) -> (H, as many queries, as many keys), a tensor of its own.
    """

    whole: Bias
    tile: Callable[[int, range, range], Tensor]

    def __call__(self, index: int) -> Tensor:
        return self.whole(index)


def attention_weights(
    q_THK: Tensor,
    k_SGK: Tensor,
    mask_TS: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    bias_HTS: Tensor | None = None,
) -> Tensor:
    """The weights of one sequence, (H, T, S), each row a distribution over the keys it may see (float32 or wider).

    A row that may see nothing is all zeros.
    """
    groups = k_SGK.shape[1]
    wide = torch.promote_types(q_THK.dtype, torch.float32)
    q_GRTK = q_THK.to(wide).unflatten(1, (groups, -1)).permute(1, 2, 0, 3)  # R query heads share each kv head
    k_G1SK = k_SGK.to(wide).transpose(0, 1)[:, None]
    scores_HTS = (q_GRTK @ k_G1SK.transpose(-1, -2)).flatten(0, 1) * scale
    if softcap is not None:
        scores_HTS = softcap * torch.tanh(scores_HTS / softcap)
    if bias_HTS is not None:
        scores_HTS = scores_HTS + bias_HTS
    weights_HTS = scores_HTS.masked_fill(~mask_TS, float("-inf")).softmax(-1)
    return weights_HTS.masked_fill(~mask_TS, 0.0)


def attend_readable(
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
    """Attention as the equation reads, one sequence at a time. Returns (N, H, width of v) in q's dtype.

    q (N, H, K), k (S, G, K), v (S, G, V): the sequences of `see` end to end; H a multiple of G. `dropout` is the
    probability with which a weight is dropped (section 5.4), for training. `bias`: see `Bias` above.
    """
    outputs = []
    for index, (q_THK, k_sGK, v_sGK) in enumerate(_sequences(q_NHK, k_SGK, v_SGK, see)):
        mask_TS = see.mask(index, q_THK.device)
        bias_HTS = None if bias is None else bias(index)
        weights_HTS = attention_weights(q_THK, k_sGK, mask_TS, scale=scale, softcap=softcap, bias_HTS=bias_HTS)
        if dropout:
            weights_HTS = F.dropout(weights_HTS, dropout)
        v_HSK = v_sGK.transpose(0, 1).repeat_interleave(q_THK.shape[1] // v_sGK.shape[1], dim=0)
        outputs.append((weights_HTS @ v_HSK.to(weights_HTS.dtype)).transpose(0, 1).to(q_NHK.dtype))
    return torch.cat(outputs) if outputs else q_NHK.new_zeros(0, q_NHK.shape[1], v_SGK.shape[2])


def attend_sdpa(
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
    """The same on torch's scaled_dot_product_attention, which never holds all scores. Arguments as `attend_readable`.

    Neighbours of equal lengths run as one rectangle. A soft cap has no fused form: the readable one answers. On a CPU
    a pass with gradients runs in float32, also under autocast: the kernel's backward pass takes ten times as long in
    bfloat16.
    """
    halved = torch.is_grad_enabled() and (q_NHK.dtype.itemsize < 4 or torch.is_autocast_enabled("cpu"))
    if halved and q_NHK.is_cpu:
        with torch.autocast("cpu", enabled=False):
            q, k, v = q_NHK.float(), k_SGK.float(), v_SGK.float()
            y_NHK = attend_sdpa(q, k, v, see, scale=scale, softcap=softcap, dropout=dropout, bias=bias)
        return y_NHK.to(q_NHK.dtype)
    if softcap is not None:
        return attend_readable(q_NHK, k_SGK, v_SGK, see, scale=scale, softcap=softcap, dropout=dropout, bias=bias)
    if see.step and bias is None and k_SGK.shape == v_SGK.shape:
        return _step(q_NHK, k_SGK, v_SGK, scale=scale, dropout=dropout)
    alike = _alike(see)
    if len(alike) == 1:
        return _rectangle(q_NHK, k_SGK, v_SGK, see, alike[0], bias, scale=scale, dropout=dropout)
    queries = [sum(see.queries[one.start : one.stop]) for one in alike]
    keys = [sum(see.keys[one.start : one.stop]) for one in alike]
    outputs = [
        _rectangle(q, k, v, see, one, bias, scale=scale, dropout=dropout)
        for one, q, k, v in zip(alike, q_NHK.split(queries), k_SGK.split(keys), v_SGK.split(keys), strict=True)
    ]
    return torch.cat(outputs) if outputs else q_NHK.new_zeros(0, q_NHK.shape[1], v_SGK.shape[2])


def _step(q_1HK: Tensor, k_SGK: Tensor, v_SGK: Tensor, *, scale: float, dropout: float) -> Tensor:
    """One query of one sequence, which sees all keys: the step of a decoder, and the least that can stand around it."""
    groups = k_SGK.shape[1]
    place = 2 if groups > 1 else 1  # of the position among (B, H, T, K), or of the one key head, as `_rectangle` says
    y = F.scaled_dot_product_attention(
        q_1HK.unsqueeze(place),
        k_SGK.transpose(0, 1).unsqueeze(0),
        v_SGK.transpose(0, 1).unsqueeze(0),
        dropout_p=dropout,
        scale=scale,
        enable_gqa=1 < groups != q_1HK.shape[1],
    )
    return y.squeeze(place)


def _alike(see: Visible) -> list[range]:
    """Neighbouring sequences with equally many queries and keys."""
    count = len(see.queries)
    lengths = list(zip(see.queries, see.keys, strict=True))
    starts = [index for index in range(count) if index == 0 or lengths[index] != lengths[index - 1]]
    return [range(start, end) for start, end in zip(starts, [*starts, count][1:], strict=True)]


def _sequences(q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, see: Visible) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    yield from zip(q_NHK.split(see.queries), k_SGK.split(see.keys), v_SGK.split(see.keys), strict=True)


def _unseen(see: Visible, alike: range, bias: Bias | None, q_NHK: Tensor) -> Tensor | bool:
    """What hides keys from the queries of sequences that look alike: True for the plain triangle, False for nothing,
    else a mask, one for each where their prefixes differ, or the bias with minus infinity at what is hidden."""
    if bias is None and see.queries[alike.start] > 1 and all(map(see.plain_causal, alike)):
        return True
    mask = None if all(map(see.everything, alike)) else _mask(see, alike, q_NHK)
    if bias is None:
        return False if mask is None else mask
    bias_HTS = bias(alike.start).to(q_NHK.dtype)
    return bias_HTS if mask is None else bias_HTS.masked_fill(~mask, float("-inf"))


def _mask(see: Visible, alike: range, q_NHK: Tensor) -> Tensor:
    """(T, S), or (B, 1, T, S) where sequences that look alike differ in their prefixes."""
    if len({see.held(index) for index in alike}) == 1:
        return see.mask(alike.start, q_NHK.device)
    return torch.stack([see.mask(index, q_NHK.device) for index in alike])[:, None]


def _rectangle(
    q_NHK: Tensor,
    k_SGK: Tensor,
    v_SGK: Tensor,
    see: Visible,
    alike: range,
    bias: Bias | None,
    *,
    scale: float,
    dropout: float,
) -> Tensor:
    """The sequences of `see` that are numbered in `alike`, as one call on (B, heads, positions, K)."""
    heads, groups, width, batch = q_NHK.shape[1], k_SGK.shape[1], q_NHK.shape[2], len(alike)
    k_BGSK = k_SGK.view(batch, -1, groups, width).transpose(1, 2)
    v_BGSK = v_SGK.view(batch, -1, groups, v_SGK.shape[2]).transpose(1, 2)
    q_BHTK = q_NHK.view(batch, -1, heads, width).transpose(1, 2)
    narrower = width - v_SGK.shape[2]
    if narrower > 0:  # torch's fused kernels want values as wide as keys, and the other one holds all scores
        v_BGSK = F.pad(v_BGSK, (0, narrower))
    if q_NHK.is_cpu and not dropout and not torch.is_grad_enabled() and _in_runs(see, alike, q_NHK.dtype):
        y_BHTK = _runs(q_BHTK, k_BGSK, v_BGSK, see, alike.start, bias, scale)
        return y_BHTK[..., : v_SGK.shape[2]].transpose(1, 2).flatten(0, 1)
    unseen = _unseen(see, alike, bias, q_NHK)
    # The heads of MQA stand as queries of its one key head where no mask tells queries apart. It is then read once: 1.3
    # ms in place of 8.5 for 16 heads, one query each and 2,048 keys of 576 numbers, on one thread.
    folded = groups == 1 and unseen is False
    if folded:
        q_BHTK = q_BHTK.flatten(1, 2)[:, None]
    y_BHTK = F.scaled_dot_product_attention(
        q_BHTK,
        k_BGSK,
        v_BGSK,
        attn_mask=unseen if isinstance(unseen, Tensor) else None,
        is_causal=unseen is True,
        scale=scale,
        dropout_p=dropout,
        enable_gqa=q_BHTK.shape[1] != groups,
    )
    if folded:
        y_BHTK = y_BHTK[:, 0].unflatten(1, (heads, -1))
    return y_BHTK[..., : v_SGK.shape[2]].transpose(1, 2).flatten(0, 1)


def _in_runs(see: Visible, alike: range, dtype: torch.dtype) -> bool:
    """Whether these sequences are so long that they go a run of queries at a time, and hide the same from each."""
    hides = not all(map(see.everything, alike))
    long = RUN if dtype == torch.bfloat16 else 2 * RUN
    return see.queries[alike.start] > long and hides and len({see.held(index) for index in alike}) == 1


def _runs(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, see: Visible, index: int, bias: Bias | None, scale: float
) -> Tensor:
    """A run of queries at a time against the keys that some of them may see: no mask of all pairs is made, what lies
    before a window is not read, and torch's kernel for CPUs would go through more of what is hidden."""
    queries, device, outputs = q_BHTK.shape[2], q_BHTK.device, []
    for start in range(0, queries, RUN):
        run = range(start, min(start + RUN, queries))
        reach = see.reach(index, run)
        q_BHtK, k_BGsK, v_BGsK = q_BHTK[:, :, run.start : run.stop], _keys(k_BGSK, reach), _keys(v_BGSK, reach)
        if bias is None and _in_products(q_BHtK, k_BGsK):
            outputs.append(_products(q_BHtK, k_BGsK, v_BGsK, _hidden(see, index, run, reach), scale))
            continue
        seen_TS = torch.cat([see.tile(index, run, keys, device) for keys in reach], -1)
        added = seen_TS
        if bias is not None:
            bias_HTS = torch.cat([_tile(bias, index, run, keys).to(q_BHTK.dtype) for keys in reach], -1)
            added = bias_HTS.masked_fill(~seen_TS, float("-inf"))
        several = q_BHTK.shape[1] != k_BGSK.shape[1]
        outputs.append(
            F.scaled_dot_product_attention(q_BHtK, k_BGsK, v_BGsK, attn_mask=added, scale=scale, enable_gqa=several)
        )
    return torch.cat(outputs, dim=2)


def _in_products(q_BHTK: Tensor, k_BGSK: Tensor) -> bool:
    """Whether a run goes through two plain products: in bfloat16 where that pays, while its scores are few."""
    scores = q_BHTK[..., 0].numel() * k_BGSK.shape[2]
    return q_BHTK.dtype == torch.bfloat16 and scores <= SCORES and bfloat16_pays()


def _products(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, hidden_TC: Tensor, scale: float) -> Tensor:
    """A run as one product for the scores, a softmax, and one product for the values; heads of a group stand
    under each other, as queries of their key head. `hidden_TC`: minus infinity where one of the last keys is hidden.
    2.5 ms for 9 heads over 512 tokens, torch's fused kernel 4.7."""
    batch, heads, queries, _ = q_BHTK.shape
    k_bSK, v_bSK = k_BGSK.flatten(0, 1), v_BGSK.flatten(0, 1)  # b: every key head of every sequence
    q_bTK = (q_BHTK * scale).reshape(len(k_bSK), -1, q_BHTK.shape[3])
    scores_BHTS = torch.bmm(q_bTK, k_bSK.transpose(1, 2)).view(batch, heads, queries, -1)
    scores_BHTS[..., scores_BHTS.shape[-1] - hidden_TC.shape[1] :].add_(hidden_TC)
    weights_bTS = scores_BHTS.softmax(-1).view(len(k_bSK), -1, k_bSK.shape[1])  # summed in float32 inside
    return torch.bmm(weights_bTS, v_bSK).view(batch, heads, queries, -1)


def _hidden(see: Visible, index: int, run: range, reach: tuple[range, ...]) -> Tensor:
    """What hides the last of a run's keys from its queries: behind those that all of them see, where that is plain."""
    if see.causal and see.window is None and see.held(index) <= 1 and len(run) == RUN:
        return _triangle(RUN)
    seen_TS = torch.cat([see.tile(index, run, keys, "cpu") for keys in reach], -1)
    return torch.zeros(seen_TS.shape, dtype=torch.bfloat16).masked_fill_(~seen_TS, float("-inf"))


@lru_cache(maxsize=1)
def _triangle(run: int) -> Tensor:
    """The last `run` keys of as many queries: the same in every run of every prompt."""
    return torch.full((run, run), float("-inf"), dtype=torch.bfloat16).triu(1)


def _keys(rows_BGSK: Tensor, reach: tuple[range, ...]) -> Tensor:
    parts = [rows_BGSK[:, :, keys.start : keys.stop] for keys in reach]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _tile(bias: Bias, index: int, queries: range, keys: range) -> Tensor:
    """The part of a sequence's bias that is of these queries and keys."""
    if isinstance(bias, Tilewise):
        return bias.tile(index, queries, keys)
    return bias(index)[:, queries.start : queries.stop, keys.start : keys.stop]
