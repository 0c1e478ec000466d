"""Attentions that a reader might write: right ones in several styles, and wrong ones with the property that breaks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from cutaway.ops.attend import attend_readable
from cutaway.ops.visible import Visible


def attention(
    *,
    factor=lambda scale, width: scale,
    repeat=lambda x, times: x.repeat_interleave(times, 1),
    mask=lambda see, index: see.mask(index),
    axis=-1,
    cap=lambda scores, softcap: softcap * torch.tanh(scores / softcap),
    late_cap=False,
    hidden=float("-inf"),
    after=False,
    wide=torch.float32,
    soft=torch.softmax,
    single=False,
    unit=False,
    spoil=None,
    detach=False,
    halves=None,
):
    """Attention with one of its pieces exchanged."""

    def attend(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None):
        if single:
            see = Visible(
                queries=(q.shape[0],),
                keys=(k.shape[0],),
                causal=see.causal,
                window=see.window,
                prefix=see.prefix if len(see.queries) == 1 else None,
            )
        if spoil == "q":
            q.mul_(scale)
            scale = 1.0
        rows, first, start = [], 0, 0
        for index, (queries, keys) in enumerate(zip(see.queries, see.keys, strict=True)):
            times = q.shape[1] // k.shape[1]
            mine = q[first : first + queries].to(wide)
            key, value = (repeat(x[start : start + keys].to(wide), times) for x in (k, v))
            if unit:
                mine, key = F.normalize(mine, dim=-1), F.normalize(key, dim=-1)
            scores = torch.einsum("thk,shk->hts", mine, key) * factor(scale, q.shape[-1])
            if softcap is not None and cap is not None and not late_cap:
                scores = cap(scores, softcap)
            if bias is not None:
                scores = scores + bias(index).to(wide)
            seen = mask(see, index)
            if not after:
                scores = scores.masked_fill(~seen, hidden)
            if late_cap and softcap is not None:
                scores = cap(scores, softcap)
            weights = soft(scores, dim=axis)
            weights = weights * seen if after else weights.nan_to_num()
            if halves is not None and queries > 1 and queries % halves:
                weights = weights.clone()
                weights[:, -1] = weights[:, -2]
            rows.append(torch.einsum("hts,shk->thk", weights, value).to(q.dtype))
            first, start = first + queries, start + keys
        out = torch.cat(rows)
        return out.detach() if detach else out

    return attend


def start_aligned(see, index):
    return torch.ones(see.queries[index], see.keys[index], dtype=torch.bool).tril() if see.causal else see.mask(index)


def shifted(by):
    def mask(see, index):
        queries, keys = see.queries[index], see.keys[index]
        return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries + by) if see.causal else see.mask(index)

    return mask


def whole(see, index):
    return torch.ones(see.queries[index], see.keys[index], dtype=torch.bool)


def no_window(see, index):
    return Visible(queries=see.queries, keys=see.keys, causal=see.causal, prefix=see.prefix).mask(index)


def no_prefix(see, index):
    return Visible(queries=see.queries, keys=see.keys, causal=see.causal, window=see.window).mask(index)


def always_causal(see, index):
    return (
        see.mask(index) & Visible(queries=see.queries, keys=see.keys).mask(index)
        if see.keys >= see.queries
        else see.mask(index)
    )


def naive_softmax(scores, dim):
    grown = scores.exp()
    return grown / grown.sum(dim, keepdim=True)


def powers_of_two(scores, dim):
    return torch.softmax(scores * math.log(2), dim)


ATTEND_WRONG = {
    "scale ignored": (attention(factor=lambda scale, width: 1.0), "scale"),
    "own scale": (attention(factor=lambda scale, width: width**-0.5), "scale"),
    "scale twice": (attention(factor=lambda scale, width: scale * scale), "scale"),
    "divided by scale": (attention(factor=lambda scale, width: 1 / scale), "scale"),
    "on top": (attention(factor=lambda scale, width: scale * width**-0.5), "scale"),
    "powers of two": (attention(soft=powers_of_two), "scale"),
    "cosines": (attention(unit=True), "scores"),
    "heads in turn": (attention(repeat=lambda x, times: x.repeat(1, times, 1)), "head order"),
    "heads backwards": (attention(repeat=lambda x, times: x.repeat_interleave(times, 1).flip(1)), "head order"),
    "mask ignored": (attention(mask=whole), "mask"),
    "sees the next": (attention(mask=shifted(1)), "mask"),
    "not itself": (attention(mask=shifted(-1)), "mask"),
    "upside down": (
        attention(mask=lambda see, index: see.mask(index).flip(0, 1) if see.causal else see.mask(index)),
        "mask",
    ),
    "start aligned": (attention(mask=start_aligned), "cache offset"),
    "window ignored": (attention(mask=no_window), "window"),
    "prefix ignored": (attention(mask=no_prefix), "prefix"),
    "always causal": (attention(mask=always_causal), "both ways"),
    "softmax over queries": (attention(axis=-2), "softmax axis"),
    "softmax over heads": (attention(axis=0), "softmax axis"),
    "masked after": (attention(after=True), "weights sum to 1"),
    "masked with zero": (attention(hidden=0.0), "mask"),
    "softcap ignored": (attention(cap=None), "softcap"),
    "softcap not multiplied": (attention(cap=lambda scores, cap: torch.tanh(scores / cap)), "softcap"),
    "softcap after the mask": (attention(late_cap=True), "softcap"),
    "clamped softcap": (attention(cap=lambda scores, cap: scores.clamp(-cap, cap)), "softcap"),
    "naive softmax": (attention(soft=naive_softmax), "large scores"),
    "in half": (attention(wide=torch.bfloat16), "precision"),
    "one sequence": (attention(single=True), "sequences apart"),
    "in place": (attention(spoil="q"), "in-place change of an input"),
    "detached": (attention(detach=True), "gradient"),
    "odd lengths": (attention(halves=2), "lengths"),
    "blocks of eight": (attention(halves=8), "lengths"),
}


def sdpa(q, k, v, see, *, scale, softcap=None, dropout=0.0):
    """Torch's own, a sequence at a time."""
    if softcap is not None:
        return attend_readable(q, k, v, see, scale=scale, softcap=softcap)
    rows = []
    for index, (one, key, value) in enumerate(
        zip(q.split(see.queries), k.split(see.keys), v.split(see.keys), strict=True)
    ):
        told = {"attn_mask": see.mask(index), "scale": scale, "enable_gqa": True}
        moved = (x.transpose(0, 1) for x in (one, key, value))
        rows.append(F.scaled_dot_product_attention(*moved, **told).transpose(0, 1))
    return torch.cat(rows)


def loops(q, k, v, see, *, scale, softcap=None, dropout=0.0):
    """A query and a head at a time."""
    rows, first, start = [], 0, 0
    for index, (queries, keys) in enumerate(zip(see.queries, see.keys, strict=True)):
        mask = see.mask(index)
        for t in range(queries):
            heads = []
            for h in range(q.shape[1]):
                g = h * k.shape[1] // q.shape[1]
                scores = (k[start : start + keys, g].float() @ q[first + t, h].float()) * scale
                scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
                grown = (
                    torch.where(mask[t], (scores - scores[mask[t]].amax()).exp(), 0.0) if mask[t].any() else scores * 0
                )
                total = grown.sum() if bool(mask[t].any()) else 1.0
                heads.append(((grown / total) @ v[start : start + keys, g].float()).to(q.dtype))
            rows.append(torch.stack(heads))
        first, start = first + queries, start + keys
    return torch.stack(rows)


ATTEND_RIGHT = {"einsum": attention(), "float64 inside": attention(wide=torch.float64), "sdpa": sdpa, "loops": loops}
ATTEND_RIGHT["large negative mask"] = attention(hidden=-1e30)
