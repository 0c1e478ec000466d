"""ALiBi against loops: slopes as the paper's code makes them, and attention whose scores lose m per token between.

Press et al. 2021 (arXiv 2108.12409), section 3 and the code beside it.
T tokens of one sequence · H query head · G kv head · K head dim.   Read next: nn/alibi.py
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def slopes(heads: int) -> list[float]:
    """A geometric row that begins with its own ratio; between powers of two, every other one of the longer row."""
    if math.log2(heads).is_integer():
        ratio = 2 ** (-(2 ** -(math.log2(heads) - 3)))
        return [ratio * ratio**head for head in range(heads)]
    lower = 2 ** math.floor(math.log2(heads))
    return slopes(lower) + slopes(2 * lower)[0::2][: heads - lower]


def oracle(q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, scale: float) -> Tensor:
    """Causal attention, one query and head at a time."""
    rows = []
    for t in range(q_THK.shape[0]):
        heads = []
        for h, slope in enumerate(slopes(q_THK.shape[1])):
            g = h * k_TGK.shape[1] // q_THK.shape[1]
            scores = [scale * (q_THK[t, h] * k_TGK[s, g]).sum() - slope * (t - s) for s in range(t + 1)]
            weights = torch.stack(scores).softmax(0)
            heads.append(sum(weights[s] * v_TGK[s, g] for s in range(t + 1)))
        rows.append(torch.stack([torch.as_tensor(head) for head in heads]))
    return torch.stack(rows)


def check_alibi(attend: Callable[..., Tensor], seed: int = 0) -> None:
    """`attend(q, k, v, scale)` of one sequence. Raises AssertionError, naming the heads, where it differs. Float64."""
    make = torch.Generator().manual_seed(seed)
    for heads, groups in ((1, 1), (2, 1), (3, 3), (4, 2), (6, 2), (12, 3)):
        shapes = ((7, heads, 4), (7, groups, 4), (7, groups, 4))
        given = [torch.randn(shape, generator=make, dtype=torch.float64, requires_grad=True) for shape in shapes]
        results = []
        for form in (attend, oracle):
            y_THK = form(given[0], given[1], given[2], 0.5)
            results.append([y_THK, *torch.autograd.grad(y_THK.sin().sum(), given)])
        for name, ours, theirs in zip(("output", "q's", "k's", "v's gradient"), *results, strict=True):
            error = float((ours - theirs).detach().abs().max())
            # Slopes are float32: 2^(-8/3) has lost what is beyond its 24 bits, times up to 6 tokens.
            assert error < 1e-6, f"{heads} heads over {groups}: {name} differs by {error:.3g}"
