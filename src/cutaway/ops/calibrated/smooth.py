"""SmoothQuant: inputs and weights both in 8 bits, after large input columns have handed some of their size to weights.

Xiao et al. 2022 (arXiv 2211.10438), section 4, equations 3 and 4:
  y = (x / s) (w s)^T,   s_c = max |x_c|^alpha / max |w_c|^(1 - alpha)
A column of inputs that is a hundred times as large as the others leaves those only a level or two of a scale that all
share; weights, which are even, can take a part of that. Then both are whole numbers of 8 bits, and so is the product:
  y_nr = s_x s_r sum_c q_nc q_rc        summed in int32
Read next: ops/blocks/absmax.py, ops/calibrated/awq.py
"""

# N inputs · R rows (outputs) · C columns (inputs)

from __future__ import annotations

from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.absmax import round_absmax
from cutaway.ops.blocks.scheme import Absmax

TENSOR = Absmax(bits=8, share="tensor")


def smoothing(largest_C: Tensor, w_RC: Tensor, *, alpha: float = 0.5) -> Tensor:
    """s (C,) for inputs whose largest sizes are `largest_C`, and weights (R, C). `alpha`: how much of the inputs' size
    goes over, the paper's 0.5. Raises BadInput for an alpha outside 0 to 1, or sizes that do not meet."""
    if not 0.0 <= alpha <= 1.0:
        raise BadInput(f"must be from 0 to 1, is {alpha}", field="alpha")
    if largest_C.shape != w_RC.shape[1:]:
        raise BadInput(f"has {tuple(largest_C.shape)}, weights {tuple(w_RC.shape)}", field="largest_C")
    inputs, weights = largest_C.float().clamp(min=1e-5), w_RC.detach().float().abs().amax(0).clamp(min=1e-5)
    return inputs.pow(alpha) / weights.pow(1 - alpha)


def product_int8(x_NC: Tensor, w_RC: Tensor, scheme: Absmax = TENSOR) -> Tensor:
    """x (N, C) times w (R, C), both rounded to 8 bits, the inputs under one scale for all -> (N, R) float32.

    `scheme`: the weights', per tensor or per row (a scale within a row would not come out of the sum)."""
    if scheme.bits != 8 or not scheme.symmetric or not isinstance(scheme.share, str):
        raise BadInput("is for 8 bits, symmetric, a scale for a tensor or a row", field="scheme")
    x, w = round_absmax(x_NC, TENSOR), round_absmax(w_RC.detach(), scheme)
    # Sums of up to 2^17 products of two 8-bit numbers stay below 2^31; float64 holds them all.
    sums_NR = x.q_RGW.flatten(1).double() @ w.q_RGW.flatten(1).double().T
    return (sums_NR * x.scale_RG1[:, 0].double() * w.scale_RG1[:, 0].double().T).float()


def product_smooth(x_NC: Tensor, w_RC: Tensor, scale_C: Tensor, scheme: Absmax = TENSOR) -> Tensor:
    """The same behind `smoothing`: (x / s) times (w s)."""
    return product_int8(x_NC / scale_C, w_RC.detach() * scale_C, scheme)
