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

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.ops.visible import Visible

# What is added to the scores of one sequence, by its index: (H, T, S). Sequences of equal T and S have equal ones.
Bias = Callable[[int], Tensor]

RUN = 128
"""Queries that a long prompt is cut into on a CPU; 64 and 256 measured no faster."""


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
    halved = q_NHK.dtype.itemsize < 4 or torch.is_autocast_enabled("cpu")
    if halved and q_NHK.is_cpu and torch.is_grad_enabled():
        with torch.autocast("cpu", enabled=False):
            q, k, v = q_NHK.float(), k_SGK.float(), v_SGK.float()
            y_NHK = attend_sdpa(q, k, v, see, scale=scale, softcap=softcap, dropout=dropout, bias=bias)
        return y_NHK.to(q_NHK.dtype)
    if softcap is not None:
        return attend_readable(q_NHK, k_SGK, v_SGK, see, scale=scale, softcap=softcap, dropout=dropout, bias=bias)
    runs = _alike(see)
    if len(runs) == 1:
        unseen = _unseen(see, runs[0], bias, q_NHK)
        return _rectangle(q_NHK, k_SGK, v_SGK, len(runs[0]), unseen, scale=scale, dropout=dropout)
    queries = [sum(see.queries[run.start : run.stop]) for run in runs]
    keys = [sum(see.keys[run.start : run.stop]) for run in runs]
    outputs = [
        _rectangle(q, k, v, len(run), _unseen(see, run, bias, q), scale=scale, dropout=dropout)
        for run, q, k, v in zip(runs, q_NHK.split(queries), k_SGK.split(keys), v_SGK.split(keys), strict=True)
    ]
    return torch.cat(outputs) if outputs else q_NHK.new_zeros(0, q_NHK.shape[1], v_SGK.shape[2])


def _alike(see: Visible) -> list[range]:
    """Runs of neighbouring sequences with equally many queries and keys."""
    count = len(see.queries)
    lengths = list(zip(see.queries, see.keys, strict=True))
    starts = [index for index in range(count) if index == 0 or lengths[index] != lengths[index - 1]]
    return [range(start, end) for start, end in zip(starts, [*starts, count][1:], strict=True)]


def _sequences(q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, see: Visible) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    yield from zip(q_NHK.split(see.queries), k_SGK.split(see.keys), v_SGK.split(see.keys), strict=True)


def _unseen(see: Visible, run: range, bias: Bias | None, q_NHK: Tensor) -> Tensor | bool:
    """What hides keys from the queries of a run of sequences: True for the plain triangle, False for nothing, else a
    mask, one for each where their prefixes differ, or the bias with minus infinity at what is hidden."""
    if bias is None and see.queries[run.start] > 1 and all(map(see.plain_causal, run)):
        return True
    mask = None if all(map(see.everything, run)) else _mask(see, run, q_NHK)
    if bias is None:
        return False if mask is None else mask
    bias_HTS = bias(run.start).to(q_NHK.dtype)
    return bias_HTS if mask is None else bias_HTS.masked_fill(~mask, float("-inf"))


def _mask(see: Visible, run: range, q_NHK: Tensor) -> Tensor:
    """(T, S), or (B, 1, T, S) where the sequences of a run differ in their prefixes."""
    if len({see.held(index) for index in run}) == 1:
        return see.mask(run.start, q_NHK.device)
    return torch.stack([see.mask(index, q_NHK.device) for index in run])[:, None]


def _rectangle(
    q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, batch: int, unseen: Tensor | bool, *, scale: float, dropout: float
) -> Tensor:
    """`batch` sequences that look alike, as one call on (B, heads, positions, K). `unseen`: as `_unseen` says."""
    heads, groups, width = q_NHK.shape[1], k_SGK.shape[1], q_NHK.shape[2]
    k_BGSK = k_SGK.view(batch, -1, groups, width).transpose(1, 2)
    v_BGSK = v_SGK.view(batch, -1, groups, v_SGK.shape[2]).transpose(1, 2)
    q_BHTK = q_NHK.view(batch, -1, heads, width).transpose(1, 2)
    narrower = width - v_SGK.shape[2]
    if narrower > 0:  # torch's fused kernels want values as wide as keys, and the other one holds all scores
        v_BGSK = F.pad(v_BGSK, (0, narrower))
    if unseen is True and q_BHTK.shape[2] > 2 * RUN and not dropout and not torch.is_grad_enabled() and q_NHK.is_cpu:
        y_BHTK = _runs(q_BHTK, k_BGSK, v_BGSK, scale)
        return y_BHTK[..., : v_SGK.shape[2]].transpose(1, 2).flatten(0, 1)
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


def _runs(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, scale: float) -> Tensor:
    """The plain triangle, a run of queries at a time against the keys up to its end: torch's kernel for CPUs goes
    through more of what is hidden."""
    queries, outputs = q_BHTK.shape[2], []
    for start in range(0, queries, RUN):
        end = min(start + RUN, queries)
        seen_TS = torch.ones(end - start, end, dtype=torch.bool, device=q_BHTK.device).tril(start)
        outputs.append(
            F.scaled_dot_product_attention(
                q_BHTK[:, :, start:end],
                k_BGSK[:, :, :end],
                v_BGSK[:, :, :end],
                attn_mask=seen_TS,
                scale=scale,
                enable_gqa=q_BHTK.shape[1] != k_BGSK.shape[1],
            )
        )
    return torch.cat(outputs, dim=2)
