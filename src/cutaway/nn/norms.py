"""Norms as parts: learned weights around `forms.rms_norm` and `forms.layer_norm`.

Equations and papers: ops/norm.py.
N tokens, flat · D model dim, or head dim where queries and keys are normed.   Read next: nn/batch_norm.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost


def check_eps(eps: float, name: str) -> None:
    """Zero would divide by zero on a row of zeros."""
    if not 0.0 < eps < math.inf:
        raise BadInput(f"must be above 0, is {eps}", field=f"{name}.eps")


@dataclass(frozen=True, kw_only=True)
class RMSNorm:
    """y = x / rms(x) * (offset + weight). `offset=1.0` is Gemma's form, its weights start at 0."""

    eps: float = 1e-6
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_eps(self.eps, "RMSNorm")
        if not math.isfinite(self.offset):
            raise BadInput(f"must be finite, is {self.offset}", field="RMSNorm.offset")

    def build(self, dim: int) -> RMSNormModule:
        return RMSNormModule(dim, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        return Cost(parameters=dim)


class RMSNormModule(nn.Module):
    """x (..., D) -> (..., D). Starts as multiplying by one."""

    def __init__(self, dim: int, spec: RMSNorm):
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.full((dim,), 1.0 - spec.offset))

    def forward(self, x_ND: Tensor, context: Context) -> Tensor:
        return context.forms.rms_norm(x_ND, self.weight, eps=self.spec.eps, offset=self.spec.offset)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.spec.eps}, offset={self.spec.offset}"


@dataclass(frozen=True, kw_only=True)
class LayerNorm:
    """y = (x - mean) / deviation * weight + bias."""

    eps: float = 1e-5
    bias: bool = True

    def __post_init__(self) -> None:
        check_eps(self.eps, "LayerNorm")

    def build(self, dim: int) -> LayerNormModule:
        return LayerNormModule(dim, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        return Cost(parameters=dim * (1 + self.bias))


class LayerNormModule(nn.Module):
    """x (..., D) -> (..., D). Weights start at one, biases at zero."""

    def __init__(self, dim: int, spec: LayerNorm):
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if spec.bias else None

    def forward(self, x_ND: Tensor, context: Context) -> Tensor:
        return context.forms.layer_norm(x_ND, self.weight, self.bias, eps=self.spec.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.spec.eps}{'' if self.bias is None else ', bias'}"
