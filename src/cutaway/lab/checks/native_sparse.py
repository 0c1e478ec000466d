"""Native sparse attention against float64 loops, and its map between blocks against brute force.

NSA (arXiv 2502.11089), equations 5 to 12, one query, head and key at a time: blocks are ranges of tokens here, and what
a selectable block is worth is counted by the tokens it shares with each compressed one, not by equation 9.
No library that the house measures itself against has this mechanism: these loops and the laws of every mixer judge it.
N tokens, flat · H query head · G kv head · K head dim.   Read next: nn/attention/native_sparse.py, lab/checks/mixer.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.nn.attention.native_sparse import BRANCHES, NativeSparse
from cutaway.nn.context import Context
from cutaway.nn.positions import Rope

Build = Callable[[NativeSparse, int], nn.Module]  # a value and a dim -> x (N, D), context -> (y (N, D), report)
Weights = Mapping[str, Tensor]  # by the names of ours
DIM = 6

_TINY: dict[str, Any] = {"heads": 4, "kv_heads": 2, "head_dim": 4, "window": 3}
CASES = (
    NativeSparse(**_TINY, block=4, stride=2, select=4, top_k=4, rope=Rope(width=4)),
    NativeSparse(**_TINY, block=2, stride=1, select=4, top_k=3, rope=Rope(width=2), hidden=3, scale=0.9),
    NativeSparse(**_TINY, block=2, stride=2, select=2, top_k=5),
    NativeSparse(heads=2, kv_heads=1, head_dim=4, block=6, stride=2, select=6, top_k=3, window=1, bias=True),
    NativeSparse(heads=2, kv_heads=2, head_dim=2, block=3, stride=1, select=3, top_k=4, window=40, out_bias=True),
)


def shared(compressed: Iterable[int], selectable: Iterable[int]) -> int:
    """Tokens that are in both."""
    return len(set(compressed) & set(selectable))


def check_native_sparse(build: Build, cases: tuple[NativeSparse, ...] = CASES, seed: int = 0) -> None:
    """Raises AssertionError, naming the case, where the output or a gradient differs from the loops. The module that
    `build` makes names its parameters as ours does."""
    make = torch.Generator().manual_seed(seed)
    for case in cases:
        module = build(case, DIM).double()
        with torch.no_grad():
            for parameter in module.parameters():  # scores far from zero, so that which blocks are chosen matters
                parameter.copy_(0.7 * torch.randn(parameter.shape, generator=make, dtype=torch.float64))
        lengths = (19, 1, 5)
        x_ND = torch.randn(sum(lengths), DIM, generator=make, dtype=torch.float64, requires_grad=True)
        weights = dict(module.named_parameters())
        expected = torch.cat([oracle(case, weights, x) for x in x_ND.split(lengths)])
        ours = module(x_ND, Context.of(lengths))[0]
        _compare(ours, expected, f"{case}: output")
        slope = torch.randn(expected.shape, generator=make, dtype=torch.float64)
        leaves = {"x": x_ND, **weights}
        got = torch.autograd.grad((ours * slope).sum(), list(leaves.values()))
        want = torch.autograd.grad((expected * slope).sum(), list(leaves.values()))
        for name, one, other in zip(leaves, got, want, strict=True):
            _compare(one, other, f"{case}: gradient of {name}")


def oracle(spec: NativeSparse, weights: Weights, x_ND: Tensor) -> Tensor:
    """y (N, D) of one sequence."""
    count, scale = x_ND.shape[0], spec.head_dim**-0.5 if spec.scale is None else spec.scale
    q = _heads(spec, weights, "query", x_ND)
    k = {branch: _heads(spec, weights, f"keys.{branch}", x_ND) for branch in BRANCHES}
    v = {branch: _heads(spec, weights, f"values.{branch}", x_ND) for branch in BRANCHES}
    blocks = [range(first, first + spec.block) for first in range(0, count - spec.block + 1, spec.stride)]
    short_k = _compress(weights, "compress_key", k["compressed"], blocks)
    short_v = _compress(weights, "compress_value", v["compressed"], blocks)
    share = spec.heads // spec.kv_heads
    gates = torch.sigmoid(x_ND @ weights["gate.weight"].T + weights["gate.bias"])
    rows = []
    for t in range(count):
        heads: list[Tensor] = []
        for g in range(spec.kv_heads):
            mine = range(g * share, (g + 1) * share)
            seen = [i for i, tokens in enumerate(blocks) if tokens[-1] <= t]
            looks = [_weights([scale * (q[t][h] @ short_k[i][g]) for i in seen]) for h in mine]
            chosen = _chosen(spec, t, [blocks[i] for i in seen], looks)
            full = [s for j in chosen for s in range(j * spec.select, (j + 1) * spec.select) if s <= t]
            near = range(max(0, t - spec.window + 1), t + 1)
            for h, look in zip(mine, looks, strict=True):
                parts = [_sum(look, [short_v[i][g] for i in seen], spec)]
                for branch, tokens in (("selected", full), ("window", near)):
                    turned = _turn(spec.rope, q[t][h], t)
                    scores = [scale * (turned @ _turn(spec.rope, k[branch][s][g], s)) for s in tokens]
                    parts.append(_sum(_weights(scores), [v[branch][s][g] for s in tokens], spec))
                heads.append(_sum([gates[t][c * spec.heads + h] for c in range(3)], parts, spec))
        rows.append(torch.cat(heads) @ weights["out.weight"].T + weights.get("out.bias", torch.zeros(())))
    return torch.stack(rows)


def _heads(spec: NativeSparse, weights: Weights, name: str, x_ND: Tensor) -> Tensor:
    y_NM = x_ND @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros(()))
    return y_NM.unflatten(-1, (-1, spec.head_dim))


def _compress(weights: Weights, name: str, rows_NGK: Tensor, blocks: list[range]) -> list[list[Tensor]]:
    """For each block and kv head one vector (K,)."""
    made = []
    for tokens in blocks:
        heads = []
        for g in range(rows_NGK.shape[1]):
            placed = [rows_NGK[s, g] + weights[f"{name}.positions"][b] for b, s in enumerate(tokens)]
            hidden = weights[f"{name}.up.weight"] @ torch.cat(placed)
            bent = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
            heads.append(weights[f"{name}.down.weight"] @ bent)
        made.append(heads)
    return made


def _chosen(spec: NativeSparse, t: int, seen: list[range], looks: list[list[Tensor]]) -> list[int]:
    """The blocks that the query at t reads: three always, then those that share most with what its heads look at."""
    own = t // spec.select
    worth = []
    for j in range(own + 1):
        tokens = range(j * spec.select, (j + 1) * spec.select)
        total = 0.0
        for i, compressed in enumerate(seen):
            total += shared(compressed, tokens) / spec.stride * sum(float(look[i].detach()) for look in looks)
        worth.append(math.inf if j in (0, own - 1, own) else total)
    return sorted(range(own + 1), key=lambda j: -worth[j])[: spec.top_k]


def _weights(scores: list[Tensor]) -> list[Tensor]:
    top = max((float(score.detach()) for score in scores), default=0.0)
    total = sum(torch.exp(score - top) for score in scores)
    return [torch.exp(score - top) / total for score in scores]


def _sum(weights: list[Tensor], values: list[Tensor], spec: NativeSparse) -> Tensor:
    total = torch.zeros(spec.head_dim, dtype=torch.float64)
    for weight, value in zip(weights, values, strict=True):
        total = total + weight * value
    return total


def _turn(rope: Rope | None, row_K: Tensor, place: int) -> Tensor:
    """Pairs (i, i + W / 2) turned by place times their frequency, which lab/checks/rope.py judges."""
    if rope is None:
        return row_K
    half, parts, frequencies = rope.width // 2, list(row_K), rope.frequencies().tolist()
    for i in range(half):
        angle = place * frequencies[i]
        one, other = row_K[i], row_K[i + half]
        parts[i] = one * math.cos(angle) - other * math.sin(angle)
        parts[i + half] = one * math.sin(angle) + other * math.cos(angle)
    return torch.stack(parts)


def _compare(got: Tensor, expected: Tensor, what: str) -> None:
    got, expected = got.detach(), expected.detach()
    assert got.shape == expected.shape, f"{what}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    # Float64 sums of a few dozen terms in another order.
    if not torch.allclose(got, expected, rtol=1e-9, atol=1e-10):
        error = float((got - expected).abs().max())
        raise AssertionError(f"{what}: differs by {error:.3g}")
