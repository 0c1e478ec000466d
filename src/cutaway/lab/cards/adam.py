"""Adam's means start at zero, so they are too small at first; dividing by 1 - b^t makes them right from step 1.

Kingma and Ba 2014 (arXiv 1412.6980), section 3.   E[v_t] = E[g^2] (1 - b2^t)
With a steady gradient the first step has the length of the rate; without the correction it would be
(1 - b1) / sqrt(1 - b2) = 3.16 times that, at the paper's b1 = 0.9 and b2 = 0.999.
Read next: train/optimisers/adam.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutaway.lab.card import Card, Finding, Near
from cutaway.train.optimisers.adam import Adam

RATE, BETAS, STEPS, DRAWS = 1e-3, (0.9, 0.999), 10, 20_000


def _steps(gradients: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """One weight for each drawn gradient: where our Adam's steps bring it, and the two means that it keeps."""
    holder = nn.ParameterDict({"weight": nn.Parameter(torch.zeros_like(gradients[0]))})
    adam = Adam(rate=RATE, betas=BETAS, eps=1e-30, form="readable").build(holder)
    for gradient in gradients:
        holder["weight"].grad = gradient.clone()
        adam.step()
    kept = {name.rsplit(".", 1)[-1]: value for name, value in adam.state_dict().items()}
    return holder["weight"].detach(), kept["first"], kept["second"]


def _compute() -> tuple[Finding, ...]:
    make = torch.Generator().manual_seed(0)
    moved, first, second = _steps([torch.rand(DRAWS, generator=make, dtype=torch.float64) + 0.5])
    drawn = [torch.randn(DRAWS, generator=make, dtype=torch.float64) for _ in range(STEPS)]
    without = (1 - BETAS[0]) / (1 - BETAS[1]) ** 0.5
    return (
        Finding(
            what="first step over the rate",
            expected=Near(value=1.0, tolerance=1e-6),
            ours=float(-moved.mean()) / RATE,
        ),
        Finding(
            what="the same from the means as they are kept",
            expected=Near(value=without, tolerance=1e-6),
            ours=float((first / second.sqrt()).mean()),
        ),
        Finding(
            what=f"mean square kept after {STEPS} steps, true one 1",
            expected=Near(value=1 - BETAS[1] ** STEPS, tolerance=0.02),
            ours=float(_steps(drawn)[2].mean()),
        ),
    )


CARD = Card(
    name="adam-bias-correction",
    claim="Means that start at zero are short by 1 - b^t; corrected, Adam's first step has the length of the rate.",
    source="Kingma and Ba 2014 (arXiv 1412.6980), section 3",
    computed=f"our Adam's first step on a steady gradient, and its mean square on {DRAWS:,} drawn ones",
    tolerance="one millionth where nothing is drawn; 2% of a mean of 200,000 squares, some six of its deviations",
    seconds=1,
    compute=_compute,
)
