"""Linear maps and token tables over packed weights.

N tokens, flat · R outputs · C inputs.   Read next: ops/multiply.py
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.nn.context import Context
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.packed import Packed


class QuantisedLinear(nn.Module):
    def __init__(self, packed: Packed, bias: nn.Parameter | None = None):
        super().__init__()
        self.packed = packed
        self.bias = bias

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return F.linear(x, dequantise(self.packed.blocks, self.packed.format).to(x.dtype), self.bias)


class QuantisedEmbedding(nn.Module):
    def __init__(self, packed: Packed):
        super().__init__()
        self.packed = packed

    def forward(self, ids_N: Tensor) -> Tensor:
        return dequantise(self.packed.blocks[ids_N], self.packed.format)

    def logits(self, x_ND: Tensor, context: Context) -> Tensor:
        return F.linear(x_ND, dequantise(self.packed.blocks, self.packed.format).to(x_ND.dtype))
