"""Rotated queries and keys meet by their distance alone: moved together, they score as before.

Su et al. 2021 (arXiv 2104.09864), section 3.2, equation 16:   (R_m q)^T (R_n k) = q^T R_(n-m) k
Read next: ops/rope.py, nn/positions.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.lab.card import AtLeast, AtMost, Card, Finding
from cutaway.lab.checks.parity import random
from cutaway.nn.context import Context
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import LinearScaling, Llama3Scaling, Yarn
from cutaway.ops.rope import rotate_readable

WIDTH, LENGTH = 64, 24
MOVES = (1, 17, 4_096, 100_000)
ROPES = {
    "halves": Rope(width=WIDTH),
    "pairs": Rope(width=WIDTH, interleaved=True),
    "linear scaling": Rope(width=WIDTH, scaling=LinearScaling(factor=4.0)),
    "Llama 3's": Rope(width=WIDTH, scaling=Llama3Scaling(factor=8.0, original_length=512)),
    "YaRN": Rope(width=WIDTH, scaling=Yarn(factor=8.0, original_length=512)),
}


def scores(rope: Rope, start: int, keys_too: bool = True) -> Tensor:
    """Of one query and one key at each pair of LENGTH places from `start` on, (T, S). `keys_too=False` turns queries
    alone, as a mistake would."""
    context = Context(lengths=(LENGTH,), positions_N=torch.arange(start, start + LENGTH))
    cos, sin = rope.tables(context, torch.float64)
    rows = [random(WIDTH, seed=seed).expand(LENGTH, 1, WIDTH) for seed in (0, 1)]
    q_NK = rotate_readable(rows[0], cos, sin, interleaved=rope.interleaved)[:, 0]
    k_NK = rotate_readable(rows[1], cos, sin, interleaved=rope.interleaved)[:, 0] if keys_too else rows[1][:, 0]
    return q_NK @ k_NK.T


def moved(rope: Rope, keys_too: bool = True) -> float:
    """By how much a score changes at the most where both places move alike."""
    here = scores(rope, 0, keys_too)
    return max(float((scores(rope, move, keys_too) - here).abs().max()) for move in MOVES)


def _compute() -> tuple[Finding, ...]:
    ours = {name: moved(rope) for name, rope in ROPES.items()}
    plain = scores(ROPES["halves"], 0)
    by_distance = [plain.diagonal(offset) for offset in range(-LENGTH + 1, LENGTH)]
    apart = torch.stack([diagonal.mean() for diagonal in by_distance])
    return (
        *(
            Finding(what=f"{name}: change of a score, both moved alike", expected=AtMost(value=1e-8), ours=change)
            for name, change in ours.items()
        ),
        Finding(what="spread of scores over distances", expected=AtLeast(value=1.0), ours=float(apart.std())),
        Finding(
            what="change where queries alone are turned",
            expected=AtLeast(value=1.0),
            ours=moved(ROPES["halves"], keys_too=False),
        ),
    )


CARD = Card(
    name="rope-relative",
    claim="Scores of rotated queries and keys depend on their distance alone, wherever both stand.",
    source="Su et al. 2021 (arXiv 2104.09864), section 3.2, equation 16",
    computed="scores of one query and key at 24 x 24 places, and the same up to 100,000 further on, in float64",
    tolerance="1e-8: cosines of angles up to 100,000 radians, which float64 knows to 1e-11",
    seconds=1,
    compute=_compute,
)
