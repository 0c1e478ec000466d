"""Feed-forwards: each token on its own, widened, bent, and brought back.

Vaswani et al. 2017 (arXiv 1706.03762), section 3.3.   plain: y = down(activation(up(x)))
Shazeer 2020 (arXiv 2002.05202), equation 6.           gated: y = down(activation(gate(x)) * up(x))
A gated one with three matrices of 2/3 the width costs as much as a plain one with two.
N tokens, flat · D model dim · F hidden dim.   Read next: ops/activation.py, nn/linear.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear
from cutaway.nn.quantised import Fan
from cutaway.nn.stream import Stream
from cutaway.ops.activation import activation_name


def _check(feed: Plain | Gated) -> None:
    name = type(feed).__name__
    at_least(feed, 1, "hidden")
    fractions(feed, "dropout")
    # A checkpoint's own name for it ("gelu_new", "swish") is kept as ours, so that equal feeds compare equal.
    object.__setattr__(feed, "activation", activation_name(feed.activation, field=f"{name}.activation"))


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Two matrices. `dropout` acts on the hidden vector, in training."""

    hidden: int
    activation: str = "gelu_tanh"
    bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    def build(self, dim: int) -> PlainFeed:
        return PlainFeed(dim, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        up = linear_cost(dim, self.hidden, tokens, bias=self.bias)
        return up + linear_cost(self.hidden, dim, tokens, bias=self.bias)

    def streams(self, dim: int) -> tuple[Stream, ...]:
        return ()


class PlainFeed(nn.Module):
    """x (N, D) -> (N, D); reports nothing."""

    def __init__(self, dim: int, spec: Plain):
        super().__init__()
        self.spec = spec
        self.up = Linear(dim, spec.hidden, bias=spec.bias)
        self.down = Linear(spec.hidden, dim, bias=spec.bias)

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        hidden_NF = context.forms.activate(self.up(x_ND, context), self.spec.activation)
        if self.spec.dropout and self.training:
            hidden_NF = F.dropout(hidden_NF, self.spec.dropout)
        return self.down(hidden_NF, context), {}


@dataclass(frozen=True, kw_only=True)
class Gated:
    """Three matrices: SwiGLU with "silu", GeGLU with "gelu" or "gelu_tanh". `dropout` acts on the hidden vector."""

    hidden: int
    activation: str = "silu"
    bias: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    def build(self, dim: int) -> GatedFeed:
        return GatedFeed(dim, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        wide = linear_cost(dim, self.hidden, tokens, bias=self.bias)
        return wide + wide + linear_cost(self.hidden, dim, tokens, bias=self.bias)

    def streams(self, dim: int) -> tuple[Stream, ...]:
        return ()


class GatedFeed(nn.Module):
    """x (N, D) -> (N, D); reports nothing."""

    def __init__(self, dim: int, spec: Gated):
        super().__init__()
        self.spec = spec
        self.fan = Fan()
        self.gate = Linear(dim, spec.hidden, bias=spec.bias)
        self.up = Linear(dim, spec.hidden, bias=spec.bias)
        self.down = Linear(spec.hidden, dim, bias=spec.bias)

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        own: Any = self._modules  # as in nn/block.py
        gate_NF, up_NF = self.fan(x_ND, context, own["gate"], own["up"])
        hidden_NF = context.forms.gate(gate_NF, up_NF, self.spec.activation)
        if self.spec.dropout and self.training:
            hidden_NF = F.dropout(hidden_NF, self.spec.dropout)
        return own["down"](hidden_NF, context), {}
