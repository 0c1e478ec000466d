"""Attention with sinks against a rolling cache kept by hand: lists of keys and values, one token after the other.

StreamingLLM (arXiv 2309.17453), section 3.2: the first k tokens and the last w; positions are places in that list.
T tokens of one sequence · H query head · G kv head · K head dim.   Read next: nn/attention/sinks.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# One sequence, not yet turned: q (T, H, K), k and v (T, G, K); window, sinks, each pair's angle, scale -> (T, H, K).
Attend = Callable[..., Tensor]


def turned(x_K: Tensor, place: int, angles: tuple[float, ...]) -> Tensor:
    """One head's numbers at a place: number i and number i + K/2 are a point in the plane (ops/rope.py)."""
    half = len(angles)
    turns = [torch.tensor(place * angle, dtype=x_K.dtype) for angle in angles]
    left = [x_K[i] * turns[i].cos() - x_K[i + half] * turns[i].sin() for i in range(half)]
    right = [x_K[i + half] * turns[i].cos() + x_K[i] * turns[i].sin() for i in range(half)]
    return torch.stack([*left, *right])


def oracle(
    q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, *, window: int, sinks: int, angles: tuple[float, ...], scale: float
) -> Tensor:
    """For every token: who is in the cache, at which place, and the mean by the softmax of turned products."""
    rows, cache = [], []
    for token in range(q_THK.shape[0]):
        cache.append(token)
        if len(cache) > sinks + window:
            del cache[sinks]
        heads = []
        for head in range(q_THK.shape[1]):
            group = head * k_TGK.shape[1] // q_THK.shape[1]
            query = turned(q_THK[token, head], len(cache) - 1, angles)
            keys = [turned(k_TGK[other, group], place, angles) for place, other in enumerate(cache)]
            weights = torch.stack([scale * (query * key).sum() for key in keys]).softmax(0)
            heads.append(sum(weight * v_TGK[other, group] for weight, other in zip(weights, cache, strict=True)))
        rows.append(torch.stack([torch.as_tensor(head) for head in heads]))
    return torch.stack(rows)


def check_sinks(attend: Attend, seed: int = 0) -> None:
    """Raises AssertionError, naming sizes, where the output or a gradient differs from the loops. Float64."""
    make = torch.Generator().manual_seed(seed)
    angles = (1.0, 0.3)
    for tokens, window, sinks in ((3, 4, 2), (6, 4, 2), (7, 4, 2), (12, 4, 2), (9, 1, 1), (11, 3, 4), (8, 2, 7)):
        shapes = ((tokens, 4, 4), (tokens, 2, 4), (tokens, 2, 4))
        given = [torch.randn(shape, generator=make, dtype=torch.float64, requires_grad=True) for shape in shapes]
        told = {"window": window, "sinks": sinks, "angles": angles, "scale": 0.6}
        results = []
        for form in (attend, oracle):
            y_THK = form(*given, **told)
            results.append([y_THK, *torch.autograd.grad(y_THK.sin().sum(), given)])
        names = ("output", "gradient of q", "gradient of k", "gradient of v")
        for name, ours, theirs in zip(names, *results, strict=True):
            error = float((ours - theirs).detach().abs().max())
            # The same sums in another order.
            assert error < 1e-10, f"{tokens} tokens, window {window}, {sinks} sinks: {name} differs by {error:.3g}"
