"""Checks of cross-entropy: oracle, gradients, ignored targets, extremes, half precision.

An implementation has the signature of `ops.cross_entropy.cross_entropy_readable`: a sum, never a mean.
N tokens, flat · D model dim · V vocabulary.   Read next: ops/cross_entropy.py
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.lab.checks.parity import Implementation, compare, expect, expect_close, random

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"smoothing": 0.1},
    {"z": 0.01},
    {"softcap": 2.0},
    {"smoothing": 0.2, "z": 0.1, "softcap": 1.5, "ignore": -1},
)


def cross_entropy_oracle(
    x: np.ndarray,
    weight: np.ndarray | None,
    targets: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    softcap: float | None = None,
    smoothing: float = 0.0,
    z: float = 0.0,
    ignore: int = -100,
) -> np.ndarray:
    """Token by token, word by word."""
    total = 0.0
    for row, target in zip(x, targets, strict=True):
        if target == ignore:
            continue
        scores = [float(value) for value in row]
        if weight is not None:
            scores = [sum(a * b for a, b in zip(row, words, strict=True)) for words in weight]
            scores = [score + (0.0 if bias is None else bias[v]) for v, score in enumerate(scores)]
        if softcap is not None:
            scores = [softcap * math.tanh(score / softcap) for score in scores]
        top = max(scores)
        lse = top + math.log(sum(math.exp(score - top) for score in scores))
        for v, score in enumerate(scores):
            wanted = (1 - smoothing) * (v == target) + smoothing / len(scores)
            total += wanted * (lse - score)
        total += z * lse**2
    return np.asarray(total)


def check_cross_entropy(implementation: Implementation) -> None:
    """Raises AssertionError, saying where, if it is not cross-entropy."""

    def with_bias(x_ND: Tensor, weight_VD: Tensor | None, targets_N: Tensor, bias_V: Tensor | None, **options: Any):
        return implementation(x_ND, weight_VD, targets_N, bias_V=bias_V, **options)

    for options in OPTIONS:
        ignore = options.get("ignore", -100)
        for targets in ([3, 0, 4, 4], [ignore, 2, ignore, 0], [1]):
            inputs = {
                "x": random(len(targets), 3, seed=1),
                "weight": random(5, 3, seed=2),
                "targets": torch.tensor(targets),
            }
            for bias in (None, random(5, seed=3)):
                compare(with_bias, cross_entropy_oracle, {**inputs, "bias": bias}, **options)
            scores = {"x": random(len(targets), 5, seed=4), "weight": None, "targets": torch.tensor(targets)}
            compare(implementation, cross_entropy_oracle, scores, **options)
    _check_laws(implementation)
    _check_extremes(implementation)


def _check_laws(implementation: Implementation) -> None:
    zeros_NV, targets_N = torch.zeros(4, 7, dtype=torch.float64), torch.tensor([0, 1, 6, -100])
    even = implementation(zeros_NV, None, targets_N)
    expect_close("law: equal scores cost log V each", even, np.asarray(3 * math.log(7)), 1e-12)
    x_ND, weight_VD, targets_N = random(6, 4, seed=5), random(9, 4, seed=6), torch.tensor([8, 0, 3, 5, 5, 1])
    whole = implementation(x_ND, weight_VD, targets_N, z=0.1)
    parts = [implementation(x_ND[a:b], weight_VD, targets_N[a:b], z=0.1) for a, b in ((0, 1), (1, 1), (1, 6))]
    expect_close("law: the whole is the sum of its parts", torch.stack(parts).sum(), whole, 1e-12)
    scores_NV = random(3, 5, seed=7)
    moved = implementation(scores_NV + 100.0, None, torch.tensor([0, 1, 2]))
    expect_close("law: c added to all scores", moved, implementation(scores_NV, None, torch.tensor([0, 1, 2])), 1e-10)


def _check_extremes(implementation: Implementation) -> None:
    """Large scores, nothing to learn, half precision."""
    scores_NV = torch.tensor([[0.0, 3e4], [-3e4, 0.0]], requires_grad=True)
    total = implementation(scores_NV, None, torch.tensor([0, 1]))
    total.backward()
    expect(float(total.detach()) == 3e4, f"scores of 0 and 30,000 cost 30,000, not {float(total.detach())}")
    given = torch.zeros_like(scores_NV) if scores_NV.grad is None else scores_NV.grad
    expect_close("gradient of large scores", given, np.asarray([[-1.0, 1.0], [0.0, 0.0]]), 1e-6)
    for count in (0, 2):
        x_ND = torch.ones(count, 3, requires_grad=True)
        total = implementation(x_ND, torch.ones(4, 3, requires_grad=True), torch.full((count,), -100))
        total.backward()
        expect(float(total.detach()) == 0.0, f"nothing to learn costs nothing, not {float(total.detach())}")
        expect(x_ND.grad is not None and not bool(x_ND.grad.any()), "nothing to learn has no gradient")
    for dtype in (torch.bfloat16, torch.float16):
        x_ND, weight_VD, targets_N = random(6, 8, seed=8).to(dtype), random(9, 8, seed=9).to(dtype), torch.arange(6)
        total = implementation(x_ND, weight_VD, targets_N)
        expect(total.dtype == torch.float32, f"{dtype} gave a sum in {total.dtype}: a long one would stop growing")
        expected = cross_entropy_oracle(x_ND.double().numpy(), weight_VD.double().numpy(), targets_N.numpy())
        # Scores of up to about 8 rounded once, in each of the six losses.
        expect_close(f"sum in {dtype}", total, expected, 6 * 8 * torch.finfo(dtype).eps / float(expected))
