"""Samplers and optimiser steps by other hands, in styles of their own, right and wrong."""

from __future__ import annotations

import bisect
import math
import random

import numpy as np
import torch


def masses(logits, decoding, seen, *, heat=True, penalise=True):
    """Plain Python, as the papers have it."""
    scores = [float(one) for one in logits]
    for token in set(seen) if penalise else ():
        p = decoding.repetition_penalty
        scores[token] = scores[token] / p if scores[token] > 0 else scores[token] * p
    best, t = max(scores), max(decoding.temperature, 1e-30) if heat else 1.0
    return [math.exp((one - best) / t) for one in scores]


def cut(mass, decoding, *, least=None, at=lambda before, p: before < p):
    """The tokens that top-k, top-p and min-p leave, likeliest first."""
    order = sorted(range(len(mass)), key=lambda token: -mass[token])[: decoding.top_k]
    whole, kept, before = sum(mass[token] for token in order), [], 0.0
    for token in order:
        if decoding.top_p is not None and kept and not at(before, decoding.top_p):
            break
        kept.append(token)
        before += mass[token] / whole
    least = least or mass
    line = (decoding.min_p or 0.0) * max(least)
    return [token for token in kept if least[token] >= line] or kept[:1]


def in_plain_python(logits, decoding, draw, seen=()):
    mass = masses(logits, decoding, seen)
    if decoding.temperature == 0:
        return mass.index(max(mass))
    kept = cut(mass, decoding)
    sums = list(np.cumsum([mass[token] for token in kept]))
    return kept[min(bisect.bisect(sums, draw.random() * sums[-1]), len(kept) - 1)]


def by_choices(logits, decoding, draw, seen=()):
    """The standard library's own weighted choice."""
    mass = masses(logits, decoding, seen)
    if decoding.temperature == 0:
        return max(range(len(mass)), key=mass.__getitem__)
    kept = cut(mass, decoding)
    return draw.choices(kept, [mass[token] for token in kept])[0]


def by_noise(logits, decoding, draw, seen=()):
    """Gumbel's noise, and the largest."""
    mass = masses(logits, decoding, seen)
    if decoding.temperature == 0:
        return mass.index(max(mass))
    noise = {token: -math.log(-math.log(draw.random() or 1e-300)) for token in cut(mass, decoding)}
    return max(noise, key=lambda token: math.log(max(mass[token], 1e-300)) + noise[token])


def by_numpy(logits, decoding, draw, seen=()):
    mass = np.array(masses(logits, decoding, seen))
    if decoding.temperature == 0:
        return int(mass.argmax())
    kept = cut(mass.tolist(), decoding)
    chance = np.random.default_rng(draw.getrandbits(64))
    return int(chance.choice(kept, p=mass[kept] / mass[kept].sum()))


def sampler(*, mass=masses, cut=cut, rank=False, last=False, zero="argmax", point=lambda draw: draw.random()):
    def choose(logits, decoding, draw, seen=()):
        if decoding.temperature == 0 and zero == "argmax":
            found = mass(logits, decoding, seen)
            return found.index(max(found))
        if decoding.temperature == 0 and zero == "raw":
            return int(logits.argmax())
        found = mass(logits, decoding, seen)
        kept = cut(found, decoding)
        sums = list(np.cumsum([found[token] for token in kept]))
        place = min(bisect.bisect(sums, point(draw) * sums[-1]), len(kept) - 1)
        return place if rank else kept[-1 - place] if last else kept[place]

    return choose


def penalised_shares(logits, decoding, seen):
    """The penalty on log shares, which are all below zero."""
    shares = torch.log_softmax(logits.double(), 0)
    return masses(shares, decoding, seen)


def subtracted(logits, decoding, seen):
    logits = logits.clone()
    for token in set(seen):
        logits[token] -= decoding.repetition_penalty - 1.0
    return masses(logits, decoding, ())


def at_least_one_degree(logits, decoding, seen):
    return masses(logits, decoding if decoding.temperature >= 1 else type(decoding)(temperature=1.0), seen)


def cold_min_p(logits, decoding, draw, seen=()):
    found, cold = masses(logits, decoding, seen), masses(logits, decoding, seen, heat=False)
    if decoding.temperature == 0:
        return found.index(max(found))
    kept = cut(found, decoding, least=cold)
    return draw.choices(kept, [found[token] for token in kept])[0]


def nucleus_first(mass, decoding):
    whole = cut(mass, type(decoding)(temperature=1.0, top_p=decoding.top_p))
    kept = whole[: decoding.top_k]
    line = (decoding.min_p or 0.0) * max(mass)
    return [token for token in kept if mass[token] >= line]


def absolute_min_p(mass, decoding):
    kept = cut(mass, type(decoding)(temperature=1.0, top_k=decoding.top_k, top_p=decoding.top_p))
    return [token for token in kept if mass[token] / sum(mass) >= (decoding.min_p or 0.0)] or kept[:1]


def least_likely(mass, decoding):
    return cut([1 / max(one, 1e-30) for one in mass], decoding)


def beyond(mass, decoding):
    return (
        [sorted(range(len(mass)), key=lambda t: -mass[t])[i] for i in range(decoding.top_k)]
        if decoding.top_k
        else cut(mass, decoding)
    )


def heated(logits, decoding, seen):
    return [math.exp(float(one) / decoding.temperature) for one in logits]


def overflowing(logits, decoding, seen):
    if decoding.temperature == 0:
        return masses(logits, decoding, seen)
    cold = masses(logits, decoding, seen, heat=False)
    return [math.exp((math.log(one) + 1.0) / decoding.temperature) for one in cold]


def gone_wild(draw):
    return random.Random(7).random()


CHOOSE_RIGHT = {
    "plain Python": in_plain_python,
    "random.choices": by_choices,
    "Gumbel's noise": by_noise,
    "numpy": by_numpy,
}
CHOOSE_WRONG = {
    "ranks for ids": (sampler(rank=True), "ids"),
    "likeliest last": (sampler(last=True), "ids"),
    "penalty on log shares": (sampler(mass=penalised_shares), "repetition penalty"),
    "penalty subtracted": (sampler(mass=subtracted), "repetition penalty"),
    "greedy without the penalty": (sampler(zero="raw"), "repetition penalty"),
    "never cold": (sampler(mass=at_least_one_degree), "temperature"),
    "min-p at temperature 1": (cold_min_p, "min-p"),
    "top-p before top-k": (sampler(cut=nucleus_first), "top-p after top-k"),
    "min-p of shares": (sampler(cut=absolute_min_p), "min-p"),
    "least likely first": (sampler(cut=least_likely), "top-k"),
    "one past an exact top-p": (sampler(cut=lambda m, d: cut(m, d, at=lambda b, p: b <= p)), "top-p"),
    "top-k beyond the end": (sampler(cut=beyond), "top-k"),
    "one point for ever": (sampler(point=gone_wild), "seed"),
    "squared point": (sampler(point=lambda draw: draw.random() ** 2), "shares"),
    "never greedy": (sampler(zero="draw", mass=lambda g, d, s: masses(g, d, s, heat=d.temperature > 0)), "greedy"),
    "zero divided by": (sampler(zero="draw", mass=heated), "greedy"),
    "overflowing": (sampler(mass=overflowing), "temperature near 0"),
}  # fmt: skip


def number_by_number(weight, gradient, first, second, pace, betas, eps):
    """In Python's own numbers."""
    b1, b2 = betas
    for place in np.ndindex(*weight.shape):
        w, g = float(weight[place]), float(gradient[place])
        m, v = b1 * float(first[place]) + (1 - b1) * g, b2 * float(second[place]) + (1 - b2) * g * g
        step = m / (1 - b1**pace.count) / (math.sqrt(v / (1 - b2**pace.count)) + eps)
        first[place], second[place] = m, v
        weight[place] = w - pace.rate * (step + pace.decay * w)


def as_torch_does(weight, gradient, first, second, pace, betas, eps):
    weight.mul_(1 - pace.rate * pace.decay)
    first.lerp_(gradient, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    below = (second.sqrt() / math.sqrt(1 - betas[1] ** pace.count)).add_(eps)
    weight.addcdiv_(first, below, value=-pace.rate / (1 - betas[0] ** pace.count))


def optimiser(weight, gradient, first, second, pace, betas, eps):
    """Torch's own optimiser, made to hold these means."""
    other = torch.nn.Parameter(weight.clone())
    own = torch.optim.AdamW([other], lr=pace.rate, betas=betas, eps=eps, weight_decay=pace.decay, foreach=False)
    own.state[other] = {"step": torch.tensor(pace.count - 1.0), "exp_avg": first, "exp_avg_sq": second}
    other.grad = gradient.clone()
    own.step()
    weight.copy_(other.detach())


def adamw(*, stale=False, nadam=False, stored=False, largest=False, of_mean=False, warm=False, one_more=False, power=0,
          grows=False, rate_squared=False, late=False, scaled=False, eps_of=lambda eps, v: eps, clip=None,
          whole=False, through=False, double_root=False, doubled=False):  # fmt: skip
    def step(weight, gradient, first, second, pace, betas, eps):
        b1, b2 = betas
        n = pace.count - power
        old = first.clone()
        if doubled:
            gradient = gradient * 2
        if clip is not None:
            gradient = gradient.clamp(-clip, clip)
        start = weight.clone()
        factor = pace.rate**2 if rate_squared else pace.rate
        if not late:
            weight.mul_(1 + factor * pace.decay if grows else 1 - factor * pace.decay)
        first.mul_(b1).add_(gradient * (1 - b1))
        square = (
            first.square() if of_mean else gradient.square().mean().expand_as(gradient) if whole else gradient.square()
        )
        new = b2 * second + (1 - b2) * square
        second.copy_(torch.maximum(new, second) if largest else new)
        mean = old if stale else b1 * first + (1 - b1) * gradient if nadam else first
        below = (second / (1 - b2**n)).sqrt()
        below = below.sqrt() if double_root else below
        if warm and pace.count < 4:
            below = torch.ones_like(below)
        moved = pace.rate * (mean / (1 - b1**n)) / (below + eps_of(eps, second))
        if scaled:
            moved = moved * pace.count**-0.5
        weight.sub_(moved)
        if late:
            weight.sub_(pace.rate * pace.decay * weight)
        if stored:
            first.div_(1 - b1**n)
        if through:
            weight.copy_(start - (start - weight).half().to(weight.dtype))

    return step


def returns(weight, gradient, first, second, pace, betas, eps):
    """Answers, and leaves the tensors as they were."""
    kept = [one.clone() for one in (weight, first, second)]
    as_torch_does(kept[0], gradient, kept[1], kept[2], pace, betas, eps)
    return kept


def spoils(weight, gradient, first, second, pace, betas, eps):
    as_torch_does(weight, gradient, first, second, pace, betas, eps)
    gradient.zero_()


ADAM_RIGHT = {"number by number": number_by_number, "as torch does": as_torch_does, "torch.optim": optimiser}
ADAM_WRONG = {
    "the mean of before": (adamw(stale=True), "means of this step"),
    "nadam": (adamw(nadam=True), "means of this step"),
    "corrected mean stored": (adamw(stored=True), "first mean"),
    "largest second mean": (adamw(largest=True), "second mean"),
    "square of the mean": (adamw(of_mean=True), "second mean"),
    "warmed up": (adamw(warm=True), "bias correction"),
    "count from zero": (adamw(power=1), "bias correction"),
    "decay grows": (adamw(grows=True), "decay"),
    "decay by the rate squared": (adamw(rate_squared=True), "decay"),
    "decay after the step": (adamw(late=True), "decay"),
    "rate falls": (adamw(scaled=True), "bias correction"),
    "eps relative": (adamw(eps_of=lambda eps, v: eps * v), "eps"),
    "eps squared": (adamw(eps_of=lambda eps, v: eps * eps), "eps"),
    "eps of its own": (adamw(eps_of=lambda eps, v: 1e-8), "eps"),
    "clipped": (adamw(clip=0.5), "first mean"),
    "one second mean for all": (adamw(whole=True), "number by number"),
    "a root of the root": (adamw(double_root=True), "root"),
    "rounded step": (adamw(through=True), "precision"),
    "gradient doubled": (adamw(doubled=True), "first mean"),
    "nothing in place": (returns, "in place"),
    "gradient spoilt": (spoils, "in place"),
}
FOREIGN_STEPS = {"infer.choose": (CHOOSE_RIGHT, CHOOSE_WRONG), "train.adamw": (ADAM_RIGHT, ADAM_WRONG)}
