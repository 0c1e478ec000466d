"""A masked-language head: what stood at each place, from what the encoder made of it.

Devlin et al. 2018 (arXiv 1810.04805), section 3.1, as in their code: logits = norm(gelu(W x + b)) E^T + c
The scores are made with the token table E itself, as in Press and Wolf 2017 (arXiv 1608.05859).
N tokens, flat, those that are asked for · D model dim · V vocabulary.   Read next: models/encoder.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.nn.block import Norm
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear
from cutaway.ops.activation import activation_name


@dataclass(frozen=True, kw_only=True)
class MaskedHead:
    """`cost` leaves out the product with the token table and the V biases, which the encoder counts."""

    norm: Norm
    activation: str = "gelu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation_name(self.activation, field="MaskedHead.activation"))

    def build(self, dim: int, vocab: int) -> MaskedHeadModule:
        return MaskedHeadModule(dim, vocab, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        return linear_cost(dim, dim, tokens, bias=True) + self.norm.cost(dim, tokens, length)


class MaskedHeadModule(nn.Module):
    """x (N, D) -> what is multiplied by the token table, (N, D); `bias` (V,) is added to the scores."""

    def __init__(self, dim: int, vocab: int, spec: MaskedHead):
        super().__init__()
        self.spec = spec
        self.dense = Linear(dim, dim, bias=True)
        self.norm = spec.norm.build(dim)
        self.bias = nn.Parameter(torch.zeros(vocab))

    def forward(self, x_ND: Tensor, context: Context) -> Tensor:
        return self.norm(context.forms.activate(self.dense(x_ND, context), self.spec.activation), context)
