"""Checks of rotary positions: oracle, gradients, half precision, and the laws that make them positions.

An implementation has the signature of `ops.rope.rotate_readable`, or of `ops.rope.tables`.
N tokens, flat · H head · K head dim · W rotary width.   Read next: ops/rope.py
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cutaway.lab.checks.parity import compare, compare_rounded, expect, expect_close, random

Rotate = Callable[..., Tensor]
Tables = Callable[..., tuple[Tensor, Tensor]]


def pair(index: int, width: int, interleaved: bool) -> tuple[int, int]:
    """Where the two numbers of a pair stand."""
    return (2 * index, 2 * index + 1) if interleaved else (index, index + width // 2)


def rotate_oracle(x: np.ndarray, angles: np.ndarray, interleaved: bool) -> np.ndarray:
    """Each pair as a complex number times e^(i angle). x (N, H, K), angles (N, W / 2)."""
    y = x.copy()
    tokens, pairs = angles.shape
    for n in range(tokens):
        for h in range(x.shape[1]):
            for index in range(pairs):
                first, second = pair(index, 2 * pairs, interleaved)
                turned = complex(x[n, h, first], x[n, h, second]) * cmath.exp(1j * angles[n, index])
                y[n, h, first], y[n, h, second] = turned.real, turned.imag
    return y


def tables_oracle(
    angles: np.ndarray, amplitude: float = 1.0, interleaved: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(cos, signed sin), each (N, 1, W), from angles (N, W / 2)."""
    tokens, pairs = angles.shape
    cos, sin = np.empty((tokens, 1, 2 * pairs)), np.empty((tokens, 1, 2 * pairs))
    for n in range(tokens):
        for index in range(pairs):
            first, second = pair(index, 2 * pairs, interleaved)
            cos[n, 0, first] = cos[n, 0, second] = amplitude * math.cos(angles[n, index])
            sin[n, 0, second] = amplitude * math.sin(angles[n, index])
            sin[n, 0, first] = -sin[n, 0, second]
    return cos, sin


def check_tables(implementation: Tables) -> None:
    """Raises AssertionError, saying where, if `implementation(frequencies, positions, ...)` makes wrong tables."""
    for width, positions in ((2, [0]), (6, [0, 1, 7, 3]), (8, [5000]), (4, [])):
        frequencies = torch.tensor([0.7**index for index in range(width // 2)], dtype=torch.float64)
        positions_N = torch.tensor(positions, dtype=torch.int64)
        angles = np.outer(np.array(positions, dtype=np.float64), frequencies.numpy())
        for interleaved in (False, True):
            for amplitude in (1.0, 1.25):
                options = {"amplitude": amplitude, "interleaved": interleaved}
                expected = tables_oracle(angles, **options)
                # Float32 angles of a few thousand radians are off by 1e-4; bfloat16 rounds at 4e-3.
                for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 5e-4), (torch.bfloat16, 1e-2)):
                    got = implementation(frequencies, positions_N, dtype=dtype, **options)
                    for name, table, right in zip(("cos", "sin"), got, expected, strict=True):
                        expect(table.dtype == dtype, f"{name} is {table.dtype}, asked for {dtype}")
                        expect_close(f"{name} (interleaved={interleaved})", table, right, tolerance)


def check_rotate(implementation: Rotate) -> None:
    """Raises AssertionError, saying where, if it is not the rotation."""
    for tokens, heads, head_dim, width in ((1, 1, 2, 2), (3, 2, 6, 6), (4, 1, 9, 4), (2, 3, 8, 2), (0, 2, 4, 4)):
        x_NHK = random(tokens, heads, head_dim, seed=1)
        angles = random(tokens, width // 2, seed=2, scale=3.0)
        for interleaved in (False, True):
            rotate, oracle = _bound(implementation, angles, interleaved)
            compare(rotate, oracle, {"x": x_NHK})
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                compare_rounded(rotate, oracle, {"x": x_NHK}, dtype)
    _check_extremes(implementation)
    _check_laws(implementation)


def _bound(implementation: Rotate, angles: Tensor, interleaved: bool) -> tuple[Callable[[Tensor], Tensor], Callable]:
    """The implementation and the oracle as functions of x alone, with the oracle's tables in x's dtype."""
    cos, sin = (torch.from_numpy(table) for table in tables_oracle(angles.numpy(), interleaved=interleaved))

    def rotate(x_NHK: Tensor) -> Tensor:
        return implementation(x_NHK, cos.to(x_NHK.dtype), sin.to(x_NHK.dtype), interleaved)

    return rotate, partial(rotate_oracle, angles=angles.numpy(), interleaved=interleaved)


def _check_extremes(implementation: Rotate) -> None:
    angles = random(3, 2, seed=3)
    for interleaved in (False, True):
        rotate, oracle = _bound(implementation, angles, interleaved)
        for size in (0.0, 1e-40, 1e30):
            compare_rounded(rotate, oracle, {"x": random(3, 1, 5, seed=4) * size}, torch.float32)
        spoilt = random(3, 1, 5, seed=4)
        spoilt[1, 0, 0] = torch.nan
        nan = rotate(spoilt).isnan()[:, 0]
        _, second = pair(0, 4, interleaved)
        expected = torch.zeros_like(nan)
        expected[1, 0] = expected[1, second] = True
        expect(torch.equal(nan, expected), f"a NaN has to spoil its own pair, spoilt {nan.nonzero().tolist()}")


def _check_laws(implementation: Rotate) -> None:
    """At position 0 nothing moves; lengths stay; dot products depend on the difference of positions alone."""
    q_1HK, k_1HK = random(1, 2, 8, seed=5), random(1, 2, 8, seed=6)
    frequencies = np.array([1.0, 0.3, 0.05, 0.002])

    def at(x_1HK: Tensor, position: int, interleaved: bool) -> Tensor:
        rotate, _ = _bound(implementation, torch.from_numpy(position * frequencies[None]), interleaved)
        return rotate(x_1HK)

    for interleaved in (False, True):
        expect_close("law: position 0 is the identity", at(q_1HK, 0, interleaved), q_1HK, 1e-12)
        lengths = at(q_1HK, 1234, interleaved).norm(dim=-1)
        expect_close("law: lengths stay", lengths, q_1HK.norm(dim=-1), 1e-12)
        scores = [
            (at(q_1HK, 7 + shift, interleaved) * at(k_1HK, 3 + shift, interleaved)).sum(-1) for shift in (0, 1, 900)
        ]
        for shifted in scores[1:]:
            # Angles of up to a thousand radians are rounded at 1e-13.
            expect_close("law: only the difference of positions counts", shifted, scores[0], 1e-10)
        other = (at(q_1HK, 8, interleaved) * at(k_1HK, 3, interleaved)).sum(-1)
        expect(not torch.allclose(other, scores[0]), "law: another difference of positions has to count")
    order = [place for index in range(4) for place in pair(index, 8, interleaved=False)]
    expect_close(
        "law: the layouts are permutations of each other",
        at(q_1HK[..., order], 11, True),
        at(q_1HK, 11, False)[..., order],
        1e-12,
    )
