"""Versions that a reader might write: right ones in several styles, and wrong ones with the property that breaks."""

from __future__ import annotations

import math
import random

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
            see = Visible(queries=(q.shape[0],), keys=(k.shape[0],), causal=see.causal, window=see.window)
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
            rows.append(torch.einsum("hts,shk->thk", weights, value).to(q.dtype if wide != torch.float64 else q.dtype))
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


def turned(
    x, cos, sin, interleaved, *, minus=-1.0, plus=1.0, flip=False, ignore=False, drop=False, rows=None, half=False
):
    width = cos.shape[-1]
    interleaved = False if ignore else interleaved != flip
    if rows is not None:
        cos, sin = rows(cos), rows(sin)
    pick = (lambda t: (t[..., 0::2], t[..., 1::2])) if interleaved else (lambda t: t.chunk(2, -1))
    plain = (
        (lambda t: (t[..., 0::2], t[..., 1::2])) if interleaved != (flip and not ignore) else (lambda t: t.chunk(2, -1))
    )
    kind = x.dtype
    a, b = pick(x[..., :width].to(torch.bfloat16) if half else x[..., :width])
    c, s = plain(cos)[0], plain(sin)[1]
    one, two = a * c + minus * b * s, b * c + plus * a * s
    out = torch.stack((one, two), -1).flatten(-2) if interleaved else torch.cat((one, two), -1)
    return out.to(kind) if drop else torch.cat((out.to(kind), x[..., width:]), -1)


def rotation(**told):
    return lambda x, cos, sin, interleaved=False: turned(x, cos, sin, interleaved, **told)


def rotated_in_place(x, cos, sin, interleaved=False):
    got = turned(x, cos, sin, interleaved)
    with torch.no_grad():
        x.copy_(got)
    return got


def complex_rotation(x, cos, sin, interleaved=False):
    """With complex numbers."""
    width = cos.shape[-1]
    wide = x[..., :width].double()
    a, b = (wide[..., 0::2], wide[..., 1::2]) if interleaved else wide.chunk(2, -1)
    c, s = (cos[..., 0::2], sin[..., 1::2]) if interleaved else (cos.chunk(2, -1)[0], sin.chunk(2, -1)[1])
    got = torch.complex(a, b) * torch.complex(c.double(), s.double())
    pairs = (got.real, got.imag)
    out = torch.stack(pairs, -1).flatten(-2) if interleaved else torch.cat(pairs, -1)
    return torch.cat((out.to(x.dtype), x[..., width:]), -1)


ROTATE_RIGHT = {"pairs": rotation(), "complex": complex_rotation}
ROTATE_WRONG = {
    "backwards": (rotation(minus=1.0, plus=-1.0), "sign of the rotation"),
    "one sign": (rotation(minus=1.0, plus=1.0), "sign of the rotation"),
    "layout ignored": (rotation(ignore=True), "rope layout"),
    "rest dropped": (rotation(drop=True), "partial width"),
    "first angle for all": (rotation(rows=lambda t: t[:1].expand_as(t)), "each token's own angle"),
    "rope in place": (rotated_in_place, "in-place change of an input"),
    "rope in half": (rotation(half=True), "precision"),
}


def rms(
    *, axis=-1, root=torch.sqrt, centre=False, place="inside", total=False, weigh=True, add=0.0, offset=True, half=False
):
    def norm(x, weight, *, eps, offset=0.0, _offset=offset):
        wide = x if half else x.float()
        wide = wide - wide.mean(-1, keepdim=True) if centre else wide
        square = wide.square().sum(axis, keepdim=True) if total else wide.square().mean(axis, keepdim=True)
        below = {
            "inside": lambda: root(square + eps),
            "outside": lambda: root(square) + eps,
            "none": lambda: root(square),
            "bound": lambda: root(square.clamp(min=eps)),
        }[place]()
        factor = (weight + add + (offset if _offset else 0.0)) if weigh else 1.0
        return (wide / below * factor).to(x.dtype)

    return norm


RMS_RIGHT = {
    "rms": rms(),
    "F.rms_norm": lambda x, w, *, eps, offset=0.0: F.rms_norm(x.float(), x.shape[-1:], w.float() + offset, eps).to(
        x.dtype
    ),
}
RMS_WRONG = {
    "over tokens": (rms(axis=0), "axis"),
    "centred": (rms(centre=True), "mean"),
    "sum": (rms(total=True), "scale"),
    "no root": (rms(root=lambda x: x), "scale"),
    "eps outside": (rms(place="outside"), "eps"),
    "eps missing": (rms(place="none"), "eps"),
    "eps as a bound": (rms(place="bound"), "eps"),
    "no weight": (rms(weigh=False), "weight"),
    "always plus one": (rms(add=1.0), "weight offset"),
    "offset ignored": (rms(offset=False), "weight offset"),
    "squares in half": (rms(half=True), "large numbers in half precision"),
}


def sampling(
    *, hot=lambda logits, t: logits / t, late=False, k_more=0, crossing=True, sort=True, renorm=True, chain=True, own=False,
    min_p="relative", negative="times", k_off=False, p_off=False, spoil=False, repeats=False, penalise=True,
):  # fmt: skip
    def choose(logits, decoding, draw, seen=()):
        scores = logits if spoil else logits.clone()
        if penalise:
            for id in seen if repeats else set(seen):
                p = decoding.repetition_penalty
                scores[id] = scores[id] / p if scores[id] > 0 or negative == "over" else scores[id] * p
        if decoding.temperature == 0:
            return int(scores.argmax())
        t = max(decoding.temperature, 1e-30)
        cold = (scores - scores.max()).softmax(0)
        heated = hot(scores - scores.max(), t).softmax(0)
        p = cold if late else heated
        order = p.argsort(descending=True) if sort else torch.arange(len(p))
        keep = len(p) if decoding.top_k is None or k_off else min(len(p), max(1, decoding.top_k + k_more))
        order = p.argsort(descending=True)[:keep] if decoding.top_k else order[:keep]
        left = p[order] / p[order].sum() if chain else p[order]
        if decoding.top_p is not None and not p_off:
            total = left.cumsum(0)
            many = int(((total - left if crossing else total) < decoding.top_p).sum())
            order = order[: max(1, many)]
        if decoding.min_p:
            line = decoding.min_p * (float(p.max()) if min_p == "relative" else 1.0)
            order = order[p[order] >= line] if bool((p[order] >= line).any()) else order[:1]
        q = heated[order] / heated[order].sum() if renorm else heated[order]
        point = random.random() if own else draw.random()
        place = int((q.cumsum(0) <= point * (float(q.cumsum(0)[-1]) if renorm else 1.0)).sum())
        return int(order[min(place, len(order) - 1)])

    return choose


def multinomial(logits, decoding, draw, seen=()):
    """Torch's own draw, from a generator that `draw` seeds."""
    from cutaway.infer.sampler import candidates, penalise

    if decoding.repetition_penalty != 1.0:
        logits = penalise(logits, seen, decoding.repetition_penalty)
    if decoding.greedy:
        return int(logits.argmax())
    p, ids = candidates(logits, decoding)
    make = torch.Generator().manual_seed(draw.getrandbits(60))
    return int(ids[torch.multinomial(p, 1, generator=make)])


CHOOSE_RIGHT = {"cumulative": sampling(), "multinomial": multinomial}
CHOOSE_WRONG = {
    "temperature ignored": (sampling(hot=lambda logits, t: logits), "temperature"),
    "temperature multiplied": (sampling(hot=lambda logits, t: logits * t), "temperature"),
    "temperature late": (sampling(late=True), "order of temperature and top-p"),
    "top-k one more": (sampling(k_more=1), "top-k"),
    "top-k one less": (sampling(k_more=-1), "top-k"),
    "top-k ignored": (sampling(k_off=True), "top-k"),
    "top-p without crossing": (sampling(crossing=False), "top-p"),
    "top-p unsorted": (sampling(sort=False), "top-p"),
    "top-p ignored": (sampling(p_off=True), "top-p"),
    "not chained": (sampling(chain=False), "top-p after top-k"),
    "not renormalised": (sampling(renorm=False), "renormalising"),
    "own chance": (sampling(own=True), "seed"),
    "absolute min-p": (sampling(min_p="absolute"), "min-p"),
    "negative divided": (sampling(negative="over"), "repetition penalty"),
    "penalised twice": (sampling(repeats=True), "repetition penalty"),
    "penalty ignored": (sampling(penalise=False), "repetition penalty"),
    "logits spoilt": (sampling(spoil=True), "in-place change of an input"),
}


def step(*, count=lambda n: n, first=True, second=True, place="outside", decay="beside", swap=False, square=True, root=True,
         bind=False, rate=True, up=False):  # fmt: skip
    def adam(weight, gradient, m, v, pace, betas, eps):
        one, two = betas[::-1] if swap else betas
        n = count(pace.count)
        if decay == "coupled":
            gradient = gradient + pace.decay * weight
        elif decay == "whole":
            weight.mul_(1 - pace.decay)
        elif decay == "beside":
            weight.mul_(1 - pace.rate * pace.decay)
        new_m = one * m + (1 - one) * gradient
        new_v = two * v + (1 - two) * (gradient * gradient if square else gradient.abs())
        if bind:
            m, v = new_m, new_v
        else:
            m.copy_(new_m)
            v.copy_(new_v)
        mean = m / (1 - one**n) if first else m
        mean_square = v / (1 - two**n) if second else v
        below = {
            "outside": lambda: (mean_square.sqrt() if root else mean_square) + eps,
            "inside": lambda: (mean_square + eps).sqrt(),
            "none": lambda: mean_square.sqrt(),
            "early": lambda: (v.sqrt() + eps) / (1 - two**n) ** 0.5,
        }[place]()
        moved = (pace.rate if rate else 0.1) * mean / below
        weight.add_(moved) if up else weight.sub_(moved)
        if decay == "late":
            weight.mul_(1 - pace.rate * pace.decay)

    return adam


ADAM_WRONG = {
    "no correction": (step(first=False, second=False), "bias correction"),
    "first uncorrected": (step(first=False), "bias correction"),
    "second uncorrected": (step(second=False), "bias correction"),
    "count off by one": (step(count=lambda n: n + 1), "bias correction"),
    "eps inside": (step(place="inside"), "eps"),
    "eps missing from adam": (step(place="none"), "eps"),
    "eps early": (step(place="early"), "eps"),
    "decay coupled": (step(decay="coupled"), "decay"),
    "decay whole": (step(decay="whole"), "decay"),
    "decay late": (step(decay="late"), "decay"),
    "decay ignored": (step(decay="none"), "decay"),
    "betas exchanged": (step(swap=True), "first mean"),
    "not squared": (step(square=False), "second mean"),
    "no root in adam": (step(root=False), "root"),
    "bound anew": (step(bind=True), "in place"),
    "rate ignored": (step(rate=False), "rate"),
    "uphill": (step(up=True), "direction"),
}
WRONG = {
    "ops.attend": ATTEND_WRONG,
    "ops.rotate": ROTATE_WRONG,
    "ops.rms_norm": RMS_WRONG,
    "infer.choose": CHOOSE_WRONG,
    "train.adamw": ADAM_WRONG,
}
RIGHT = {
    "ops.attend": ATTEND_RIGHT,
    "ops.rotate": ROTATE_RIGHT,
    "ops.rms_norm": RMS_RIGHT,
    "infer.choose": CHOOSE_RIGHT,
    "train.adamw": {"plain": step()},
}
