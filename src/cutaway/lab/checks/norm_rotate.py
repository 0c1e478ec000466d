"""Checks of RMS norm and RoPE in one step: the oracles of both, one after the other, forward and gradient.

An implementation has the signature of `ops.norm_rotate.norm_rotate_readable`.
N tokens, flat · H head · K head dim · W rotary width.   Read next: lab/checks/norm.py, lab/checks/rope.py
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from cutaway.lab.checks.norm import rms_norm_oracle
from cutaway.lab.checks.parity import Implementation, compare, compare_rounded, expect, random
from cutaway.lab.checks.rope import rotate_oracle, tables_oracle

SHAPES = ((1, 1, 2, 2), (3, 2, 6, 6), (4, 1, 9, 4), (2, 3, 8, 2), (7, 5, 4, 4))  # (N, H, K, W)


def norm_rotate_oracle(
    x: np.ndarray, weight: np.ndarray, *, angles: np.ndarray, interleaved: bool, eps: float, offset: float
) -> np.ndarray:
    """Element by element. angles (N, W / 2)."""
    return rotate_oracle(rms_norm_oracle(x, weight, eps=eps, offset=offset), angles, interleaved)


def check_norm_rotate(implementation: Implementation, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> None:
    """Raises AssertionError, saying where, if it is not RMS norm and then the rotation."""
    for tokens, heads, head_dim, width in shapes:
        inputs = {"x": random(tokens, heads, head_dim, seed=1), "weight": random(head_dim, seed=2)}
        angles = random(tokens, width // 2, seed=3, scale=3.0).numpy()
        for interleaved in (False, True):
            for offset, eps in ((0.0, 1e-6), (1.0, 0.5)):
                told = {"angles": angles, "interleaved": interleaved, "offset": offset, "eps": eps}
                ours = partial(_with_tables, implementation)
                compare(ours, norm_rotate_oracle, inputs, **told)
                for dtype in (torch.float32, torch.bfloat16, torch.float16):
                    # Three roundings at worst, as of the norm's own check, and two more of the tables.
                    tolerance = {torch.float32: 4e-6, torch.bfloat16: 6e-2, torch.float16: 8e-3}[dtype]
                    compare_rounded(ours, norm_rotate_oracle, inputs, dtype, tolerance=tolerance, **told)
    empty = _with_tables(
        implementation,
        torch.zeros(0, 2, 4),
        torch.ones(4),
        angles=np.zeros((0, 2)),
        interleaved=False,
        eps=1e-6,
        offset=0.0,
    )
    expect(tuple(empty.shape) == (0, 2, 4), f"no tokens gave {tuple(empty.shape)}")


def _with_tables(
    implementation: Implementation,
    x_NHK: Tensor,
    weight_K: Tensor,
    *,
    angles: np.ndarray,
    interleaved: bool,
    **told: float,
) -> Tensor:
    cos, sin = (torch.from_numpy(table).to(x_NHK.dtype) for table in tables_oracle(angles, interleaved=interleaved))
    return implementation(x_NHK, weight_K, cos, sin, interleaved=interleaved, **told)
