"""Latent attention against float64 loops, forward and gradient, and its two forms against each other.

DeepSeek-V2 (arXiv 2405.04434), section 2.1, one number at a time: every head's keys and values are made in full.
N tokens, flat · D model dim · H head · K head dim · V value dim · W rotary width · R rank
Read next: nn/attention/latent.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from cutaway.lab.checks.parity import compare_weighed, expect_close, random
from cutaway.nn.attention.latent import Latent
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import Yarn

# What is checked: (value, weights by the module's names, x (N, D), lengths of the sequences) -> y (N, D).
Run = Callable[[Latent, Mapping[str, Tensor], Tensor, tuple[int, ...]], Tensor]

DIM = 4
INTERLEAVED = Rope(width=2, interleaved=True)
STRETCHED = Rope(
    width=4,
    interleaved=True,
    scaling=Yarn(factor=8.0, original_length=4, mscale=0.7, mscale_all_dim=1.3),
)
CASES: tuple[tuple[Latent, tuple[int, ...]], ...] = (
    (Latent(heads=2, rank=3, head_dim=2, rope=INTERLEAVED), (4,)),
    (Latent(heads=2, rank=3, head_dim=2, value_dim=1, query_rank=3, rope=INTERLEAVED, bias=True, out_bias=True), (3,)),
    (Latent(heads=1, rank=1, head_dim=1, value_dim=3, rope=STRETCHED), (3, 1, 2)),
    (Latent(heads=2, rank=2, head_dim=1, query_rank=1, rope=Rope(width=4, theta=50.0), scale=0.8), (2, 3)),
)


def shapes(spec: Latent, dim: int) -> dict[str, tuple[int, ...]]:
    """The weights that a value has, by name."""
    turned, queries = spec.rope.width, spec.heads * (spec.head_dim + spec.rope.width)
    made: dict[str, tuple[int, ...]] = {"query.weight": (queries, dim)}
    if spec.query_rank is not None:
        made = {
            "query_down.weight": (spec.query_rank, dim),
            "query_norm.weight": (spec.query_rank,),
            "query_up.weight": (queries, spec.query_rank),
        }
        made |= {"query_down.bias": (spec.query_rank,)} if spec.bias else {}
    made |= {"down.weight": (spec.rank + turned, dim), "norm.weight": (spec.rank,)}
    made |= {"down.bias": (spec.rank + turned,)} if spec.bias else {}
    made |= {"up.weight": (spec.heads * (spec.head_dim + spec.value_width), spec.rank)}
    made |= {"out.weight": (dim, spec.heads * spec.value_width)}
    return made | ({"out.bias": (dim,)} if spec.out_bias else {})


def oracle(spec: Latent, weights: Mapping[str, np.ndarray], x_ND: np.ndarray, lengths: tuple[int, ...]) -> np.ndarray:
    """The equations in loops over sequences, queries, heads and keys, (N, D)."""
    rows, start = [], 0
    for length in lengths:
        tokens = [_token(spec, weights, x_ND[start + t], t) for t in range(length)]
        rows += [_query(spec, weights, tokens[: t + 1]) for t in range(length)]
        start += length
    return np.stack(rows)


def _token(spec: Latent, weights: Mapping[str, np.ndarray], x: np.ndarray, position: int) -> tuple[np.ndarray, ...]:
    """One token's queries, keys (H, K + W) and values (H, V)."""
    hidden = _linear(weights, "down", x)
    latent, shared = _norm(hidden[: spec.rank], weights["norm.weight"], spec), hidden[spec.rank :]
    if spec.query_rank is None:
        queries = _linear(weights, "query", x)
    else:
        small = _norm(_linear(weights, "query_down", x), weights["query_norm.weight"], spec)
        queries = _linear(weights, "query_up", small)
    plain, values = spec.head_dim, spec.value_width
    q, k, v = [], [], []
    for head in range(spec.heads):
        mine = queries[head * (plain + spec.rope.width) :][: plain + spec.rope.width]
        q.append(np.concatenate((mine[:plain], _turn(spec.rope, mine[plain:], position))))
        made = weights["up.weight"][head * (plain + values) :][: plain + values] @ latent
        k.append(np.concatenate((made[:plain], _turn(spec.rope, shared, position))))
        v.append(made[plain:])
    return np.stack(q), np.stack(k), np.stack(v)


def _query(spec: Latent, weights: Mapping[str, np.ndarray], tokens: list[tuple[np.ndarray, ...]]) -> np.ndarray:
    """What the last of these tokens takes from all of them, (D,)."""
    heads = []
    for head in range(spec.heads):
        scores = [_scale(spec) * float(tokens[-1][0][head] @ keys[head]) for _, keys, _ in tokens]
        weighed = [math.exp(score - max(scores)) for score in scores]
        heads.append(sum(one / sum(weighed) * token[2][head] for one, token in zip(weighed, tokens, strict=True)))
    return _linear(weights, "out", np.concatenate(heads))


def _scale(spec: Latent) -> float:
    if spec.scale is not None:
        return spec.scale
    scaling = spec.rope.scaling
    told = (scaling.mscale_all_dim or 0.0) if isinstance(scaling, Yarn) else 0.0
    sharper = 0.1 * told * math.log(scaling.factor) + 1.0 if isinstance(scaling, Yarn) else 1.0
    return sharper * sharper / math.sqrt(spec.head_dim + spec.rope.width)


def _linear(weights: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0.0)


def _norm(x: np.ndarray, weight: np.ndarray, spec: Latent) -> np.ndarray:
    return x / math.sqrt((x**2).mean() + spec.norm.eps) * (spec.norm.offset + weight)


def _turn(rope: Rope, x: np.ndarray, position: int) -> np.ndarray:
    """The frequencies are rope's own, which lab/checks/positions.py checks."""
    amplitude = 1.0 if rope.scaling is None else rope.scaling.amplitude
    turned = np.empty_like(x)
    for pair, frequency in enumerate(rope.frequencies().double().tolist()):
        one, other = (2 * pair, 2 * pair + 1) if rope.interleaved else (pair, pair + rope.width // 2)
        a, b, cos, sin = x[one], x[other], math.cos(position * frequency), math.sin(position * frequency)
        turned[one], turned[other] = amplitude * (a * cos - b * sin), amplitude * (b * cos + a * sin)
    return turned


def drawn(spec: Latent, dim: int, seed: int = 0) -> dict[str, Tensor]:
    """Random weights, large enough that every part shows."""
    return {name: random(*shape, seed=seed + index) for index, (name, shape) in enumerate(shapes(spec, dim).items())}


def check_latent(run: Run, seed: int = 0) -> None:
    """Raises AssertionError, naming output or weight and place, where values or gradients differ from the loops."""
    for spec, lengths in CASES:
        x_ND = random(sum(lengths), DIM, seed=seed + 50)
        compare_weighed(run, oracle, spec, drawn(spec, DIM, seed), x_ND, lengths)


def check_forms(one: Run, other: Run, tolerance: float = 1e-10, seed: int = 0) -> float:
    """Two ways to compute the same agree, forward and in every gradient; returns the largest difference seen."""
    worst = 0.0
    for spec, lengths in CASES:
        found = [_with_gradients(run, spec, lengths, seed) for run in (one, other)]
        for name, got in found[0].items():
            # Float64; the forms multiply in another order, which moves the last few of 53 bits.
            expect_close(name, got, found[1][name], tolerance)
            worst = max(worst, float((got - found[1][name]).abs().max()))
    return worst


def _with_gradients(run: Run, spec: Latent, lengths: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    leaves = {"x": random(sum(lengths), DIM, seed=seed + 50)} | drawn(spec, DIM, seed)
    leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
    y_ND = run(spec, {name: leaf for name, leaf in leaves.items() if name != "x"}, leaves["x"], lengths)
    slopes = torch.autograd.grad((y_ND * random(*y_ND.shape, seed=seed + 99)).sum(), list(leaves.values()))
    named = {f"gradient of {name}": slope for name, slope in zip(leaves, slopes, strict=True)}
    return {"output": y_ND.detach(), **named}
