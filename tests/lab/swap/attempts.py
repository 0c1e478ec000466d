"""Versions that a reader might write: right ones in several styles, and wrong ones with the property that breaks."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F

from .attentions import ATTEND_RIGHT, ATTEND_WRONG
from .foreign import FOREIGN
from .foreign_attentions import FOREIGN_RIGHT, FOREIGN_WRONG
from .foreign_modules import FOREIGN_MODULES
from .foreign_steps import FOREIGN_STEPS
from .unseen import UNSEEN
from .unseen_steps import UNSEEN_STEPS


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
    *, hot=lambda logits, t: logits / t, late=False, k_more=0, crossing=True, sort=True, renorm=True, chain=True,
    own=False, min_p="relative", negative="times", k_off=False, p_off=False, spoil=False, repeats=False, penalise=True,
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


def step(*, count=lambda n: n, first=True, second=True, place="outside", decay="beside", swap=False, square=True,
         root=True, bind=False, rate=True, up=False):  # fmt: skip
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
OWN = {
    "ops.attend": (ATTEND_RIGHT, ATTEND_WRONG),
    "ops.rotate": (ROTATE_RIGHT, ROTATE_WRONG),
    "ops.rms_norm": (RMS_RIGHT, RMS_WRONG),
    "infer.choose": (CHOOSE_RIGHT, CHOOSE_WRONG),
    "train.adamw": ({"plain": step()}, ADAM_WRONG),
}
TABLES = (
    OWN,
    {"ops.attend": (FOREIGN_RIGHT, FOREIGN_WRONG)},
    FOREIGN,
    FOREIGN_STEPS,
    FOREIGN_MODULES,
    UNSEEN,
    UNSEEN_STEPS,
)
# (part, name, version) and (part, name, version, the property that breaks)
RIGHT = [(part, name, one) for table in TABLES for part, (right, _) in table.items() for name, one in right.items()]
WRONG = [(part, name, *one) for table in TABLES for part, (_, wrong) in table.items() for name, one in wrong.items()]
