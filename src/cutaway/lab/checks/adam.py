"""Adam's step number by number, in plain Python floats (float64), the decay beside it as in AdamW.

Kingma and Ba 2014 (arXiv 1412.6980), algorithm 1; Loshchilov and Hutter 2017 (arXiv 1711.05101), algorithm 2.
Read next: train/optimisers/adam.py, train/optimisers/adamw.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def adam_oracle(
    weight: float,
    gradients: Sequence[float],
    *,
    rate: float,
    betas: tuple[float, float],
    eps: float,
    decay: float = 0.0,
) -> tuple[float, float, float]:
    """(weight, first mean, second mean) after a step for each gradient, from means of zero."""
    first = second = 0.0
    for count, gradient in enumerate(gradients, 1):
        weight -= rate * decay * weight
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient * gradient
        mean, square = first / (1 - betas[0] ** count), second / (1 - betas[1] ** count)
        weight -= rate * mean / (math.sqrt(square) + eps)
    return weight, first, second
