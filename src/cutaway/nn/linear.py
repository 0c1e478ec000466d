"""A linear map, y = x W^T + b, with its weight as rows of outputs.

N tokens, flat.   Read next: nn/quantised.py (the same map over packed weights)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutaway.nn.context import Context


class Linear(nn.Module):
    """x (N, inputs) -> (N, outputs). Starts normal with deviation 0.02 (GPT-2, section 2.3), bias zero."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return context.forms.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        outputs, inputs = self.weight.shape
        return f"{inputs} -> {outputs}{'' if self.bias is None else ', bias'}"
