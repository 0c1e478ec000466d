"""Column- and row-parallel linear maps by hand: what is sent forward, and what backward.

Shoeybi et al. 2019, Megatron-LM (arXiv 1909.08053), section 3, figure 3.
  columns:  W = [W_1 .. W_p] by outputs;  y_i = x W_i^T.   Forward nothing; backward dx = sum of dy_i W_i
  rows:     W = [W_1 .. W_p] by inputs;   y = sum of x_i W_i^T.   Forward that sum; backward nothing
The paper's f is `Copied` (identity forward, sum backward), its g is `Summed` (sum forward, identity backward). Behind
columns come rows: in between each process has its own columns, and nonlinear functions need nobody else.
N tokens, flat.   Read next: train/parallel/tensor.py (torch's own on a decoder)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.errors import BadInput

Group = dist.ProcessGroup | None


class Copied(torch.autograd.Function):
    """The same x for all processes; each adds its share to x's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _sum(gradients[0], ctx.group), None


class Summed(torch.autograd.Function):
    """Each process's share of y becomes the whole y; its gradient is everyone's."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, group: Group) -> Tensor:
        return _sum(share, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class ColumnLinear(nn.Module):
    """The whole x (N, inputs) -> this process's (N, outputs / p). `weight` (outputs, inputs) and `bias` are whole."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, group: Group = None):
        super().__init__()
        self.group = group
        self.weight = nn.Parameter(_part(weight, 0, group))
        self.bias = None if bias is None else nn.Parameter(_part(bias, 0, group))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(Copied.apply(x, self.group), self.weight, self.bias)  # type: ignore[arg-type]


class RowLinear(nn.Module):
    """This process's x (N, inputs / p) -> the whole (N, outputs). The bias is added once, behind the sum."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, group: Group = None):
        super().__init__()
        self.group = group
        self.weight = nn.Parameter(_part(weight, 1, group))
        self.bias = None if bias is None else nn.Parameter(bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        y: Any = Summed.apply(F.linear(x, self.weight), self.group)
        return y if self.bias is None else y + self.bias


def _sum(tensor: Tensor, group: Group) -> Tensor:
    summed = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(summed, group=group)
    return summed


def _part(whole: Tensor, dim: int, group: Group) -> Tensor:
    count = dist.get_world_size(group)
    if whole.shape[dim] % count:
        raise BadInput(
            f"{whole.shape[dim]} rows or columns cannot be shared out among {count} processes", field="weight"
        )
    return whole.chunk(count, dim)[dist.get_rank(group)].clone()
