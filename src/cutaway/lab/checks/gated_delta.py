"""Gated DeltaNet against float64 loops, forward and gradient: one token, head and number at a time.

Yang et al. 2024 (arXiv 2412.06464), equation 10. The loops hold what a memory answers as the sum of all it was ever
told: y_t = sum_s (weight of s at t) (k_s . q_t) u_s, with no state at all, so that they share nothing with the parts.
N tokens, flat · D model dim · H value head · G key head · K key dim · V value dim.
Read next: nn/attention/gated_delta.py, ops/delta.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from cutaway.lab.checks.parity import compare_weighed, random
from cutaway.nn.attention.gated_delta import TINY, GatedDelta
from cutaway.nn.norms import RMSNorm

# What is checked: (value, weights by the module's names, x (N, D), lengths of the sequences) -> y (N, D).
Run = Callable[[GatedDelta, Mapping[str, Tensor], Tensor, tuple[int, ...]], Tensor]
Weights = Mapping[str, np.ndarray]

DIM = 4
SOFT = RMSNorm(eps=0.5)  # a norm of what is near zero has no differences to hold a gradient against
CASES: tuple[tuple[GatedDelta, tuple[int, ...]], ...] = (
    (GatedDelta(heads=2, key_heads=2, head_dim=3, norm=SOFT), (5,)),
    (GatedDelta(heads=4, key_heads=2, head_dim=3, value_dim=2, kernel=2, norm=SOFT), (2, 1, 3)),
    (GatedDelta(heads=2, key_heads=1, head_dim=4, value_dim=1, kernel=1, norm=RMSNorm(eps=1.0)), (2, 4)),
)
# Differences again: a key as short as a tenth is brought to length 1, which multiplies its fifth derivative by 1e5.
GRADIENT = 1e-6


def shapes(spec: GatedDelta, dim: int) -> dict[str, tuple[int, ...]]:
    """The weights that a value has, by name."""
    values = spec.heads * spec.value_width
    return {
        "fade": (spec.heads,),
        "fade_bias": (spec.heads,),
        "rows.weight": (spec.channels + values, dim),
        "rates.weight": (2 * spec.heads, dim),
        "convolution.weight": (spec.channels, 1, spec.kernel),
        "norm.weight": (spec.value_width,),
        "out.weight": (dim, values),
    }


def drawn(spec: GatedDelta, dim: int, seed: int = 0) -> dict[str, Tensor]:
    """Random weights, large enough that every part shows."""
    return {name: random(*shape, seed=seed + index) for index, (name, shape) in enumerate(shapes(spec, dim).items())}


def check_gated_delta(run: Run, seed: int = 0) -> None:
    """Raises AssertionError, naming output or weight and place, where values or gradients differ from the loops."""
    for spec, lengths in CASES:
        x_ND = random(sum(lengths), DIM, seed=seed + 50)
        compare_weighed(run, oracle, spec, drawn(spec, DIM, seed), x_ND, lengths, gradient=GRADIENT)


def oracle(spec: GatedDelta, weights: Weights, x_ND: np.ndarray, lengths: tuple[int, ...]) -> np.ndarray:
    """The equations in loops over sequences, tokens and heads, (N, D)."""
    rows, start = [], 0
    for length in lengths:
        x_TD = x_ND[start : start + length]
        heads = [_head(spec, weights, x_TD, head) for head in range(spec.heads)]
        rows += [weights["out.weight"] @ np.concatenate([head[t] for head in heads]) for t in range(length)]
        start += length
    return np.stack(rows)


def _head(spec: GatedDelta, weights: Weights, x_TD: np.ndarray, head: int) -> list[np.ndarray]:
    """What a value head gives for each token, before the output's map."""
    q, k = (_mixed(spec, weights, x_TD, name, head) for name in ("query", "key"))
    v = _mixed(spec, weights, x_TD, "value", head)
    made: list[np.ndarray] = []
    told: list[np.ndarray] = []  # u of each token
    fades: list[float] = []
    for t, x_D in enumerate(x_TD):
        write, fade = _rates(spec, weights, x_D, head)
        fades.append(fade)
        key, query = _unit(k[t]), _unit(q[t]) / math.sqrt(spec.head_dim)
        known = sum((_left(fades, s, t) * (_unit(k[s]) @ key) * told[s] for s in range(t)), np.zeros(spec.value_width))
        told.append(write * (v[t] - known))
        parts = (_left(fades, s, t) * (_unit(k[s]) @ query) * told[s] for s in range(t + 1))
        y = sum(parts, np.zeros(spec.value_width))
        normed = y / math.sqrt((y**2).mean() + spec.norm.eps) * weights["norm.weight"]
        made.append(normed * _silu(_row(spec, weights, x_D, "gate", head)))
    return made


def _left(fades: list[float], s: int, t: int) -> float:
    """What is left at t of what was written at s: it fades with each token after s."""
    return math.prod(fades[s + 1 : t + 1])


def _row(spec: GatedDelta, weights: Weights, x_D: np.ndarray, name: str, head: int) -> np.ndarray:
    """A head's part of the one large map. A key head's rows: query, key, the values of its heads, their gates."""
    share, width = spec.heads // spec.key_heads, spec.value_width
    group, within = head // share, head % share
    first = group * (2 * spec.head_dim + 2 * share * width)
    begins = {
        "query": 0,
        "key": spec.head_dim,
        "value": 2 * spec.head_dim + within * width,
        "gate": 2 * spec.head_dim + (share + within) * width,
    }
    count = spec.head_dim if name in ("query", "key") else width
    return weights["rows.weight"][first + begins[name] :][:count] @ x_D


def _mixed(spec: GatedDelta, weights: Weights, x_TD: np.ndarray, name: str, head: int) -> list[np.ndarray]:
    """A head's rows of all tokens behind the convolution and its silu. Channels: all queries, all keys, all values."""
    group, keys = head // (spec.heads // spec.key_heads), spec.key_heads * spec.head_dim
    firsts = {"query": group * spec.head_dim, "key": keys + group * spec.head_dim}
    first = firsts.get(name, 2 * keys + head * spec.value_width)
    rows = [_row(spec, weights, x_D, name, head) for x_D in x_TD]
    made = []
    for t in range(len(rows)):
        kernel = weights["convolution.weight"][first : first + len(rows[t]), 0]
        back = [(j, t - spec.kernel + 1 + j) for j in range(spec.kernel)]
        made.append(_silu(np.sum([kernel[:, j] * rows[s] for j, s in back if s >= 0], axis=0)))
    return made


def _rates(spec: GatedDelta, weights: Weights, x_D: np.ndarray, head: int) -> tuple[float, float]:
    """b and a of a token. A key head's rows of the map: b of its heads, then a's."""
    share = spec.heads // spec.key_heads
    first = head // share * 2 * share + head % share
    write, fade = (float(weights["rates.weight"][first + more] @ x_D) for more in (0, share))
    speed = math.exp(float(weights["fade"][head])) * math.log1p(math.exp(fade + float(weights["fade_bias"][head])))
    return 1 / (1 + math.exp(-write)), math.exp(-speed)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / math.sqrt(float((x**2).sum()) + TINY)


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))
