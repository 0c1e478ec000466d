"""A pooler: one vector for a sequence, from its first token.

Devlin et al. 2018 (arXiv 1810.04805), section 3.1: the first token stands for its sequence.   p = tanh(W x_0 + b)
B sequence · D model dim.   Read next: models/encoder.py, models/classifier.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear


@dataclass(frozen=True, kw_only=True)
class Pooler:
    """As wide as the model."""

    def build(self, dim: int) -> PoolerModule:
        return PoolerModule(dim, self)

    def cost(self, dim: int, sequences: int, length: int) -> Cost:
        return linear_cost(dim, dim, sequences, bias=True)


class PoolerModule(nn.Module):
    """first tokens (B, D) -> (B, D)."""

    def __init__(self, dim: int, spec: Pooler):
        super().__init__()
        self.spec = spec
        self.dense = Linear(dim, dim, bias=True)

    def forward(self, first_BD: Tensor, context: Context) -> Tensor:
        return torch.tanh(self.dense(first_BD, context))
