"""A linear map of rows: y = x W^T + b, with the weight as rows of outputs.

N tokens, flat (any leading axes will do) · C columns (inputs) · R rows of the weight (outputs).
Read next: nn/linear.py, ops/cpu/dense.py
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def linear_readable(x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None = None) -> Tensor:
    """(N, C) -> (N, R), as the equation reads."""
    y_NR = x_NC @ weight_RC.transpose(0, 1)
    return y_NR if bias_R is None else y_NR + bias_R


def linear_fast(x_NC: Tensor, weight_RC: Tensor, bias_R: Tensor | None = None) -> Tensor:
    """The same by torch's product."""
    return F.linear(x_NC, weight_RC, bias_R)
