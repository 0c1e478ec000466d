"""Checks of RMS norm and layer norm: oracle, gradients, half precision, extremes, laws.

An implementation has the signature of `ops.norm.rms_norm_readable` or `ops.norm.layer_norm_readable`.
N tokens, flat · D model dim.   Read next: ops/norm.py
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cutaway.lab.checks.parity import Implementation, Oracle, compare, compare_rounded, expect, expect_close, random

SHAPES = ((1, 1), (3, 5), (2, 8), (2, 3, 4))
HALVES = (torch.float32, torch.bfloat16, torch.float16)


def rms_norm_oracle(x: np.ndarray, weight: np.ndarray, *, eps: float, offset: float = 0.0) -> np.ndarray:
    """Row by row, element by element."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.empty_like(rows)
    for n, row in enumerate(rows):
        mean_square = sum(value * value for value in row) / len(row)
        for d, value in enumerate(row):
            y[n, d] = value / math.sqrt(mean_square + eps) * (offset + weight[d])
    return y.reshape(x.shape)


def layer_norm_oracle(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, *, eps: float) -> np.ndarray:
    """Row by row, element by element, with the biased variance."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.empty_like(rows)
    for n, row in enumerate(rows):
        mean = sum(row) / len(row)
        variance = sum((value - mean) ** 2 for value in row) / len(row)
        for d, value in enumerate(row):
            y[n, d] = (value - mean) / math.sqrt(variance + eps) * weight[d] + (0.0 if bias is None else bias[d])
    return y.reshape(x.shape)


def check_rms_norm(implementation: Implementation) -> None:
    """Raises AssertionError, saying where, if it is not RMS norm."""
    for shape in SHAPES:
        inputs = {"x": random(*shape, seed=1), "weight": random(shape[-1], seed=2)}
        for offset in (0.0, 1.0):
            for eps in (1e-6, 0.5):  # the large one shows where eps is added
                compare(implementation, rms_norm_oracle, inputs, eps=eps, offset=offset)
            for dtype in HALVES:
                compare_rounded(implementation, rms_norm_oracle, inputs, dtype, eps=1e-6, offset=offset)
    norm = partial(implementation, eps=1e-6)
    _check_extremes(norm, partial(rms_norm_oracle, eps=1e-6))
    x_ND, weight_D = random(3, 6, seed=3), random(6, seed=4)
    scaled = implementation(x_ND * 1000.0, weight_D, eps=1.0)
    expect_close("law: rms_norm(c x, c^2 eps) = rms_norm(x, eps)", scaled, norm(x_ND, weight_D), 1e-12)
    unit_ND = implementation(x_ND, torch.zeros_like(weight_D), eps=1e-30, offset=1.0)
    expect_close("law: the mean square becomes 1", unit_ND.pow(2).mean(-1), torch.ones(3), 1e-12)


def check_layer_norm(implementation: Implementation) -> None:
    """Raises AssertionError, saying where, if it is not layer norm."""
    for shape in SHAPES:
        for bias in (random(shape[-1], seed=5), None):
            inputs = {"x": random(*shape, seed=1), "weight": random(shape[-1], seed=2), "bias": bias}
            for eps in (1e-5, 0.5):
                # A row of one number minus its mean is 0 up to rounding, which a small eps would magnify.
                if shape[-1] > 1 or eps == 0.5:
                    compare(implementation, layer_norm_oracle, inputs, eps=eps)
            if shape[-1] > 1:
                for dtype in HALVES:
                    compare_rounded(implementation, layer_norm_oracle, inputs, dtype, eps=1e-5)

    def norm(x_ND: Tensor, weight_D: Tensor) -> Tensor:
        return implementation(x_ND, weight_D, None, eps=1e-5)

    _check_extremes(norm, lambda x, weight: layer_norm_oracle(x, weight, None, eps=1e-5))
    x_ND, weight_D = random(3, 6, seed=3), random(6, seed=4)
    expect_close("law: layer_norm(x + c) = layer_norm(x)", norm(x_ND + 100.0, weight_D), norm(x_ND, weight_D), 1e-10)
    scaled = implementation(x_ND * 1000.0, weight_D, None, eps=10.0)
    expect_close("law: layer_norm(c x, c^2 eps) = layer_norm(x, eps)", scaled, norm(x_ND, weight_D), 1e-12)


def _check_extremes(norm: Implementation, oracle: Oracle) -> None:
    """No tokens, zeros, denormals, large numbers, NaN; both take (x, weight) and have their eps."""
    weight_D = torch.linspace(0.5, 2.0, 6)
    for dtype in HALVES:
        empty = norm(torch.empty(0, 6, dtype=dtype), weight_D.to(dtype))
        expect(tuple(empty.shape) == (0, 6) and empty.dtype == dtype, f"no tokens gave {tuple(empty.shape)}")
    pattern_D = torch.tensor([1.0, -2.0, 3.0, 0.5, -0.25, 2.0])
    # Float16 squares overflow from 256 on: the sum has to be taken in float32. Float32 squares do from 1.8e19 on.
    for dtype, largest in ((torch.float32, 1e15), (torch.bfloat16, 1e15), (torch.float16, 2e4)):
        for size in (0.0, torch.finfo(dtype).smallest_normal / 8, 1e-3, largest):
            inputs = {"x": (pattern_D * size)[None], "weight": weight_D}
            compare_rounded(norm, oracle, inputs, dtype)
    spoilt_ND = torch.stack([pattern_D, pattern_D.clone(), pattern_D])
    spoilt_ND[1, 2] = torch.nan
    y_ND = norm(spoilt_ND, weight_D)
    expect(bool(y_ND[1].isnan().all()), "a NaN has to spoil its whole token")
    expect(bool(y_ND[[0, 2]].isfinite().all()), "a NaN has to leave other tokens alone")
