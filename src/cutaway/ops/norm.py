"""Norms over the last axis: each token's vector brought to unit scale, then weighted.

Zhang and Sennrich 2019 (arXiv 1910.07467), equation 4.   rms:   y = x / sqrt(mean(x^2) + eps) * weight
Ba et al. 2016 (arXiv 1607.06450), section 3.             layer: y = (x - mean) / sqrt(var + eps) * weight + bias
`var` is the biased variance (divided by D). Half precision is worked out in float32.
Gemma stores weights around zero and multiplies by `1 + weight`: `offset=1.0`. The families also round differently in
half precision, and so do we: Llama (offset 0) rounds before multiplying by the weight, Gemma (any other) after.
Limits: a float32 row whose squares pass 3.4e38 (values of about 1e19) becomes zero, in every implementation we know.
N tokens, flat · D model dim (any leading axes will do).   Read next: nn/norms.py, ops/rope.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ZERO = torch.zeros((), device="cpu")


def rms_norm_readable(x_ND: Tensor, weight_D: Tensor, *, eps: float, offset: float = 0.0) -> Tensor:
    """(N, D) -> (N, D) in x's dtype, as the equation reads."""
    wide = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
    unit_ND = wide / torch.sqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if offset == 0.0:
        return unit_ND.to(x_ND.dtype) * weight_D
    return (unit_ND * (offset + weight_D.to(wide.dtype))).to(x_ND.dtype)


def rms_norm_fast(x_ND: Tensor, weight_D: Tensor, *, eps: float, offset: float = 0.0) -> Tensor:
    """The same with few calls and one full-size temporary. Arguments as `rms_norm_readable`.

    torch's own `rms_norm` has no CPU kernel of its own; it is a chain of calls with four full-size temporaries, as
    quick for one row and half as quick for 512 (2 threads, 576 columns: 10 and 152 us against 11 and 79).
    """
    columns = x_ND.shape[-1]
    if x_ND.numel() == columns and x_ND.dtype == torch.float32 and x_ND.is_cpu and not torch.is_grad_enabled():
        # One row, the step of a decoder: with its scale as a Python number, three calls are enough.
        row_D = x_ND.view(-1)
        scale = (torch.dot(row_D, row_D).item() / columns + eps) ** -0.5
        return torch.addcmul(ZERO, x_ND, weight_D if offset == 0.0 else weight_D + offset, value=scale)
    wide = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
    # rsub(s, eps, alpha=-1/D) is eps + s / D in one call.
    scale_N1 = torch.rsub(wide.square().sum(-1, keepdim=True), eps, alpha=-1.0 / columns).rsqrt_()
    if offset == 0.0:
        return (wide * scale_N1).to(x_ND.dtype).mul_(weight_D)
    return (wide * scale_N1).mul_(weight_D.to(wide.dtype) + offset).to(x_ND.dtype)


def layer_norm_readable(x_ND: Tensor, weight_D: Tensor, bias_D: Tensor | None, *, eps: float) -> Tensor:
    """(N, D) -> (N, D) in x's dtype, as the equation reads; weight and bias act before the rounding."""
    wide = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
    centred_ND = wide - wide.mean(-1, keepdim=True)
    unit_ND = centred_ND / torch.sqrt(centred_ND.pow(2).mean(-1, keepdim=True) + eps)
    y_ND = unit_ND * weight_D
    return (y_ND if bias_D is None else y_ND + bias_D).to(x_ND.dtype)


def layer_norm_fast(x_ND: Tensor, weight_D: Tensor, bias_D: Tensor | None, *, eps: float) -> Tensor:
    """The same by torch's fused kernel. Arguments as `layer_norm_readable`."""
    return F.layer_norm(x_ND, x_ND.shape[-1:], weight_D, bias_D, eps)
