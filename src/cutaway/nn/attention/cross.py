"""Cross-attention: queries of one sequence over keys and values of another, which an encoder has read.

Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3.   y = attend(x W_q, m W_k, m W_v) W_o,   m the encoder's output
The source does not change while the target is written: keys and values are made once and kept (`per="memory"`).
N tokens of the targets, flat · S tokens of the sources, flat · D model dim · H query head · G kv head · K head dim
Read next: nn/context.py (`recall`), nn/attention/grouped.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.base.errors import BadInput
from cutaway.nn.attention.grouped import entropy
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear
from cutaway.nn.quantised import Fan
from cutaway.nn.stream import Stream

KEY, VALUE = "memory_key", "memory_value"


@dataclass(frozen=True, kw_only=True)
class Cross:
    """`scale`: what scores are multiplied by, 1/sqrt(head_dim) if None. `bias` is that of the q, k and v projections,
    `out_bias` that of the output's. `dropout` acts on the weights.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float | None = None
    bias: bool = False
    out_bias: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, 1, "heads", "kv_heads", "head_dim")
        if self.heads % self.kv_heads:
            raise BadInput(f"{self.heads} heads cannot share {self.kv_heads} kv heads", field="Cross.kv_heads")
        if self.scale is not None and not 0.0 < self.scale < math.inf:
            raise BadInput(f"must be positive, is {self.scale}", field="Cross.scale")
        fractions(self, "dropout")

    def build(self, dim: int) -> CrossAttention:
        return CrossAttention(dim, self)

    def streams(self, dim: int) -> tuple[Stream, ...]:
        """One key and one value per kv head and token of the source."""
        shape = (self.kv_heads, self.head_dim)
        return (Stream(KEY, shape, per="memory"), Stream(VALUE, shape, per="memory"))

    def cost(self, dim: int, tokens: int, length: int, source: int | None = None) -> Cost:
        """The last `tokens` of `length` over a source of so many tokens (as many as `length` if None). Its keys and
        values are made in the pass that begins the sequence, where `tokens` is `length`."""
        source = length if source is None else source
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        total = linear_cost(dim, queries, tokens, bias=self.bias)
        total += linear_cost(dim, keys, source if tokens == length else 0, bias=self.bias) * 2
        total += linear_cost(queries, dim, tokens, bias=self.out_bias)
        held = sum(stream.bytes(source) for stream in self.streams(dim))
        return total + Cost(flops=2 * 2 * queries * tokens * source, cache_bytes=held)


class CrossAttention(nn.Module):
    """x (N, D) -> (N, D). Reports `entropy_NH`, each head's entropy in nats, where "attention" is wanted."""

    def __init__(self, dim: int, spec: Cross):
        super().__init__()
        self.spec = spec
        self.scale = spec.head_dim**-0.5 if spec.scale is None else spec.scale
        queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.fan = Fan()
        self.query = Linear(dim, queries, bias=spec.bias)
        self.key = Linear(dim, keys, bias=spec.bias)
        self.value = Linear(dim, keys, bias=spec.bias)
        self.out = Linear(queries, dim, bias=spec.out_bias)

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        q_NHK = self.query(x_ND, context).unflatten(-1, (self.spec.heads, self.spec.head_dim))
        (k_SGK, v_SGK), see = context.recall((KEY, VALUE), self._rows(context))
        q_NHK, v_SGK = q_NHK.to(k_SGK.dtype), v_SGK.to(k_SGK.dtype)  # a cache keeps its own precision
        dropout = self.spec.dropout if self.training else 0.0
        y_NHK = context.forms.attend(q_NHK, k_SGK, v_SGK, see, scale=self.scale, dropout=dropout)
        report = {}
        if "attention" in context.want:
            report["entropy_NH"] = entropy(q_NHK, k_SGK, see, scale=self.scale)
        return self.out(y_NHK.flatten(-2).to(x_ND.dtype), context), report

    def _rows(self, context: Context) -> Sequence[Tensor]:
        """Keys and values of the memory that this pass brings; none where the cache holds them already."""
        if context.memory is None:
            return ()
        shape = (self.spec.kv_heads, self.spec.head_dim)
        x_SD = context.memory.x_SD
        x_SD = x_SD if context.narrow is None else x_SD.to(context.narrow)
        return [rows.unflatten(-1, shape) for rows in self.fan(x_SD, context, self.key, self.value)]
