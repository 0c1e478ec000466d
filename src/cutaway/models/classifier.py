"""Classification heads: one linear map of a sequence's vector, or of each token's.

Devlin et al. 2018 (arXiv 1810.04805), section 4 and section 5.3: a new matrix of classes x D, and nothing else.
N tokens, flat, or B sequences · D model dim · C classes.   Read next: models/encoder.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear


@dataclass(frozen=True, kw_only=True)
class _Classes:
    classes: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, 1, "classes")
        fractions(self, "dropout")

    def build(self, dim: int) -> ClassifierModule:
        return ClassifierModule(dim, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        return linear_cost(dim, self.classes, tokens, bias=True)


@dataclass(frozen=True, kw_only=True)
class SequenceClassifier(_Classes):
    """One answer for a sequence, from its pooled vector. One class alone is a number to be told (regression)."""


@dataclass(frozen=True, kw_only=True)
class TokenClassifier(_Classes):
    """One answer for each token. `dropout` acts on what comes in, in training."""


class ClassifierModule(nn.Module):
    """x (N, D) -> scores (N, C), or (B, D) -> (B, C)."""

    def __init__(self, dim: int, spec: _Classes):
        super().__init__()
        self.spec = spec
        self.out = Linear(dim, spec.classes, bias=True)

    def forward(self, x_ND: Tensor, context: Context) -> Tensor:
        if self.spec.dropout and self.training:
            x_ND = F.dropout(x_ND, self.spec.dropout)
        return self.out(x_ND, context)
