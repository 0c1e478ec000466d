"""GPTQ: round a matrix column by column, and let the columns still to come make up for what was lost.

Frantar et al. 2022 (arXiv 2210.17323), section 3.3 and algorithm 1. With H = X^T X of inputs X and U the upper Cholesky
factor of H^-1, for each column c in turn:
  q_c = nearest level of w_c;   e = (w_c - q_c) / U_cc;   w_j -= e U_cj  for all columns j > c
which is the best that can be done for |X w^T - X q^T|^2 with the columns before c fixed (Hassibi and Stork 1993).
A group's scale is that of its columns as they stand when it is reached. Columns are taken in runs: the columns behind a
run are changed once for all of it ("lazy batch updates").
Departure: no reordering of columns (the paper's arbitrary order; "act-order" came later).
Read next: ops/calibrated/awq.py, weights/calibration.py
"""

# N inputs · R rows (outputs) · C columns (inputs) · G groups of a row · W weights of a group

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.absmax import Levels, nearest, scales
from cutaway.ops.blocks.scheme import Absmax

RUN = 128  # columns taken together


def gptq(w_RC: Tensor, hessian_CC: Tensor, scheme: Absmax, *, damp: float = 0.01) -> Levels:
    """Levels of weights (R, C) for inputs whose X^T X is `hessian_CC`; `damp`: added to its diagonal, as a share of its
    mean (the paper's 1%). Raises BadInput where the sizes differ or numbers are not finite."""
    columns = w_RC.shape[1]
    if hessian_CC.shape != (columns, columns) or not 0.0 < damp < float("inf"):
        said = f"the inputs' products are {tuple(hessian_CC.shape)}, damp {damp}, of {columns} columns"
        raise BadInput(said, field="hessian_CC")
    group = scheme.format(columns).weights
    w, upper = w_RC.detach().double().clone(), _factor(hessian_CC, damp)
    told = None
    if isinstance(scheme.share, str):
        told = scales(w_RC.detach().float().unflatten(1, (-1, group)), scheme, whole=scheme.share == "tensor")
    q, found = torch.empty(w.shape, dtype=torch.int32, device=w.device), list[tuple[Tensor, Tensor]]()
    for start in range(0, columns, RUN):
        end = min(start + RUN, columns)
        errors = torch.empty(len(w), end - start, dtype=w.dtype, device=w.device)
        for c in range(start, end):
            if c % group == 0:
                # The columns of a group that lie behind this run are to be changed by the run's first ones, too.
                ahead = w[:, c : c + group].clone()
                ahead[:, max(0, end - c) :] -= errors[:, : c - start] @ upper[start:c, max(c, end) : c + group]
                found.append(told or scales(ahead.float()[:, None], scheme))
            scale, zero = found[-1]
            column = nearest(w[:, c].float()[:, None, None], scale, zero, scheme)
            q[:, c] = column.q_RGW[:, 0, 0]
            errors[:, c - start] = (w[:, c] - column.numbers()[:, 0].double()) / upper[c, c]
            w[:, c + 1 : end] -= errors[:, c - start, None] * upper[c, c + 1 : end]
        w[:, end:] -= errors @ upper[start:end, end:]
    scale, zero = (torch.cat([pair[at] for pair in found], 1) for at in (0, 1))
    return Levels(q_RGW=q.unflatten(1, (-1, group)), scale_RG1=scale, zero_RG1=zero)


def _factor(hessian_CC: Tensor, damp: float) -> Tensor:
    """The upper Cholesky factor of the damped inverse, float64."""
    h = hessian_CC.double().clone()
    if not h.isfinite().all():
        raise BadInput("the inputs' products are not finite", field="hessian_CC")
    mean = float(h.diagonal().mean())
    h.diagonal().add_(damp * mean if mean > 0 else 1.0)  # inputs that are all zero say nothing: any rounding is best
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)


def output_error(x_NC: Tensor, w_RC: Tensor, rounded_RC: Tensor) -> float:
    """|X w^T - X w'^T|^2 as a share of |X w^T|^2, in float64: what rounding does to what a matrix is for."""
    x, w, rounded = x_NC.double(), w_RC.detach().double(), rounded_RC.double()
    exact = x @ w.T
    return float((exact - x @ rounded.T).square().sum() / exact.square().sum())
