"""Samplers and optimiser steps that the probes had not met: cuts that nobody asked for, steps that know too much."""

from __future__ import annotations

import math

import torch

# Samplers.


def sampler(*, top_k=None, top_p=None, first=None, seen_of=set, bent=lambda shares: shares):
    """`top_k`, `top_p`: what it takes where nothing is told. `first`: how many it looks at for top-p."""

    def choose(logits, decoding, draw, seen=(), _seen=seen_of):
        scores, penalty = logits.float().clone(), decoding.repetition_penalty
        for token in _seen(list(seen)):
            scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
        if decoding.temperature == 0:
            return int(scores.argmax())
        shares = ((scores - scores.max()) / max(decoding.temperature, 1e-30)).softmax(0)
        order = shares.argsort(descending=True)[: decoding.top_k or top_k]
        part = decoding.top_p or top_p
        if part is not None:
            left = shares[order] / shares[order].sum()
            order = order[: max(1, int((left.cumsum(0) - left < part).sum()))][:first]
        if decoding.min_p:
            order = order[shares[order] >= decoding.min_p * shares.max()]
        sums = bent(shares[order]).cumsum(0)
        return int(order[min(int((sums <= draw.random() * sums[-1]).sum()), len(order) - 1)])

    return choose


def taking_away(logits, decoding, draw, seen=()):
    """Down a list in Python's own numbers, from a point that is taken less."""
    scores = [float(one) for one in logits]
    for token in {int(one) for one in seen}:
        scores[token] *= decoding.repetition_penalty ** (-1 if scores[token] > 0 else 1)
    if decoding.temperature == 0:
        return max(range(len(scores)), key=scores.__getitem__)
    best = max(scores)
    mass = [math.exp((one - best) / max(decoding.temperature, 1e-30)) for one in scores]
    order = sorted(range(len(mass)), key=lambda token: -mass[token])[: decoding.top_k]
    if decoding.top_p is not None:
        whole, kept = math.fsum(mass[token] for token in order), []
        for token in order:
            if kept and math.fsum(mass[one] for one in kept) >= decoding.top_p * whole * (1 - 1e-9):
                break
            kept.append(token)
        order = kept
    order = [token for token in order if mass[token] >= (decoding.min_p or 0.0) * mass[order[0]]]
    point = draw.uniform(0.0, math.fsum(mass[token] for token in order))
    for token in order:
        point -= mass[token]
        if point < 0:
            return token
    return order[-1]


CHOOSE_RIGHT = {"taking away": taking_away}
CHOOSE_WRONG = {
    "50 unasked": (sampler(top_k=50), "top-k"),
    "0.9 unasked": (sampler(top_p=0.9), "shares"),
    "64 for top-p": (sampler(first=64), "top-p"),
    "the last that was seen": (sampler(seen_of=lambda seen: seen[-1:]), "repetition penalty"),
    "the first that was seen": (sampler(seen_of=lambda seen: seen[:1]), "repetition penalty"),
    "roots of shares": (sampler(bent=torch.sqrt), "shares"),
}

# AdamW.


def adamw(
    *,
    gradient_of=lambda g: g,
    new=lambda g, m: g.square(),
    step_of=lambda w, mean, root, eps: mean / (root + eps),
    decay_of=lambda w: w,
    once=False,
    eps_of=lambda eps, pace: eps,
):
    def step(weight, gradient, first, second, pace, betas, eps):
        gradient = gradient_of(gradient)
        weight.sub_(pace.rate * pace.decay * decay_of(weight))
        first.lerp_(gradient, 1 - betas[0])
        second.lerp_(new(gradient, first), 1 - betas[1])
        corrected = not once or pace.count == 1
        mean = first / (1 - betas[0] ** pace.count) if corrected else first
        square = second / (1 - betas[1] ** pace.count) if corrected else second
        weight.sub_(pace.rate * step_of(weight, mean, square.sqrt(), eps_of(eps, pace)))

    return step


def in_float64(weight, gradient, first, second, pace, betas, eps):
    """Copies in float64, and back."""
    w, g, m, v = (one.double() for one in (weight, gradient, first, second))
    m, v = torch.lerp(g, m, betas[0]), torch.lerp(g * g, v, betas[1])
    moved = (m / (1 - betas[0] ** pace.count)) / ((v / (1 - betas[1] ** pace.count)) ** 0.5 + eps)
    for old, now in ((weight, w - pace.rate * (moved + pace.decay * w)), (first, m), (second, v)):
        old.copy_(now)


def trusted(w, mean, root, eps):
    """As far as the weight is long (LAMB)."""
    moved = mean / (root + eps)
    return moved * w.norm() / moved.norm().clamp(min=1e-9)


ADAM_RIGHT = {"in float64": in_float64}
ADAM_WRONG = {
    "gradients about their mean": (adamw(gradient_of=lambda g: g - g.mean()), "number by number"),
    "gradients of length 1": (adamw(gradient_of=lambda g: g / max(1.0, float(g.norm()))), "number by number"),
    "deviation from the mean": (adamw(new=lambda g, m: (g - m).square()), "second mean"),
    "signs": (adamw(step_of=lambda w, mean, root, eps: mean.sign()), "proportion"),
    "bounded": (adamw(step_of=lambda w, mean, root, eps: (mean / (root + eps)).clamp(-1, 1)), "proportion"),
    "trust ratio": (adamw(step_of=trusted), "own weight"),
    "decay by the sign": (adamw(decay_of=torch.sign), "decay"),
    "corrected once": (adamw(once=True), "bias correction"),
    "eps by the rate": (adamw(eps_of=lambda eps, pace: eps * pace.rate), "eps"),
}
UNSEEN_STEPS = {"infer.choose": (CHOOSE_RIGHT, CHOOSE_WRONG), "train.adamw": (ADAM_RIGHT, ADAM_WRONG)}
