"""What rounding to 4 bits does to a weight, by how many share a scale: foretold from the largest of a group.

Rounding to the nearest of levels s apart is off by s^2 / 12 in the mean square (Bennett 1948). In a group of g normal
numbers s = M / 7, where M is the largest in size, which itself is not off at all:
  E e^2 = (1 - 1/g) E[M^2] / (12 * 7^2),     E[M^2] = integral of 2x (1 - P(|w| < x)^g) from 0 on
Read next: ops/blocks/absmax.py, ops/blocks/scheme.py
"""

from __future__ import annotations

import math

import torch

from cutaway.lab.card import AtLeast, AtMost, Card, Finding, Near
from cutaway.ops.blocks.absmax import round_absmax
from cutaway.ops.blocks.scheme import Absmax

ROWS, COLUMNS = 1024, 1536  # 1.6 million weights: the mean of their errors is known to about 0.3%
GROUPS = (32, 64, 128, 1536)


def foretold(group: int, levels: int) -> float:
    """The root of the mean square error of normal weights, as a share of their deviation."""
    x = torch.linspace(0.0, 8.0, 80_001, dtype=torch.float64)
    largest = torch.trapezoid(2 * x * (1 - torch.erf(x / math.sqrt(2)) ** group), x)
    return math.sqrt((1 - 1 / group) * float(largest) / 12) / levels


def rounded(scheme: Absmax) -> tuple[float, float]:
    """The same, measured, and the largest error in half steps of its own group."""
    x_RC = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    levels = round_absmax(x_RC, scheme)
    error = (levels.numbers() - x_RC).double()
    off_RGW = error.unflatten(1, (levels.scale_RG1.shape[1], -1)).abs()
    return float(error.pow(2).mean().sqrt()), float((2 * off_RGW / levels.scale_RG1).max())


def _compute() -> tuple[Finding, ...]:
    found, measured, worst = [], {}, 0.0
    for group in GROUPS:
        measured[group], half_steps = rounded(Absmax(bits=4, share=group))
        expected = Near(value=foretold(group, 7), tolerance=0.01)
        found.append(Finding(what=f"int4, groups of {group}: error", expected=expected, ours=measured[group]))
        worst = max(worst, half_steps)
    eight, half_steps = rounded(Absmax(bits=8, share=64))
    ratio = Near(value=127 / 7, tolerance=0.03)
    return (
        *found,
        Finding(
            what="a row's error to that of groups of 32",
            expected=AtLeast(value=1.5),
            ours=measured[1536] / measured[32],
        ),
        Finding(what="4 bits to 8, groups of 64", expected=ratio, ours=measured[64] / eight),
        Finding(what="largest error, in half steps", expected=AtMost(value=1 + 1e-4), ours=max(worst, half_steps)),
    )


CARD = Card(
    name="int4-group-error",
    claim="In 4 bits normal weights are off by 10% of their deviation in groups of 32, by half more in rows of 1,536.",
    source="Bennett 1948, Spectra of quantized signals; block sizes: Dettmers, Zettlemoyer 2022 (arXiv 2212.09720)",
    computed="1.6 million normal weights rounded in groups of 32 to 1,536, and what s^2 / 12 foretells of them",
    tolerance="1%: scales are rounded up by 0.05%, errors known to 0.3%; 1e-4 of a half step for fp32's own rounding",
    seconds=2,
    compute=_compute,
)
