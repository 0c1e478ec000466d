"""AWQ: columns whose inputs are large are made larger before rounding, and their inputs smaller, so they lose less.

Lin et al. 2023 (arXiv 2306.00978), section 3.2:   y = (x / s) Q(w s)^T,   s_c = mean |x_c| ^ alpha
alpha is the one of a grid from 0 to 1 that leaves the smallest error on the inputs at hand; 0 is plain rounding.
Departure: no search for a smaller range of each group ("clipping").
Read next: ops/calibrated/gptq.py, ops/calibrated/smooth.py
"""

# N inputs · R rows (outputs) · C columns (inputs)

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.absmax import Levels, round_absmax
from cutaway.ops.blocks.scheme import Absmax

GRID = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaled:
    """Levels of w s, and s (C,), by which inputs are divided; what comes before a matrix can do that in its own
    weights (a norm, the matrix of values). `alpha`: the one that was chosen."""

    levels: Levels
    scale_C: Tensor
    alpha: float

    def numbers(self) -> Tensor:
        """The weights (R, C) that inputs meet which are not divided."""
        return self.levels.numbers() / self.scale_C


def awq(w_RC: Tensor, x_NC: Tensor, scheme: Absmax, *, grid: int = GRID) -> Scaled:
    """Levels of weights (R, C) for inputs (N, C). Raises BadInput where their widths differ."""
    if x_NC.ndim != 2 or x_NC.shape[1] != w_RC.shape[1] or not len(x_NC) or grid < 1:
        raise BadInput(f"inputs {tuple(x_NC.shape)} do not meet weights {tuple(w_RC.shape)}", field="x_NC")
    w, x = w_RC.detach().float(), x_NC.float()
    size_C, exact = x.abs().mean(0), x @ w.T
    best, least = None, float("inf")
    for step in range(grid):
        alpha = step / grid
        scale_C = size_C.clamp(min=1e-4).pow(alpha)
        scale_C = scale_C / (scale_C.max() * scale_C.min()).sqrt()  # about one, so that no scale leaves fp16
        made = Scaled(levels=round_absmax(w * scale_C, scheme), scale_C=scale_C, alpha=alpha)
        error = float((exact - x @ made.numbers().T).double().square().sum())
        if error < least:
            best, least = made, error
    if best is None:
        raise BadInput("inputs are not finite", field="x_NC")
    return best
