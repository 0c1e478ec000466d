"""Multi-head latent attention (MLA): keep one small vector for each token, from which all heads' keys and values come.

DeepSeek-V2 (arXiv 2405.04434), section 2.1; a_t is the latent, r_t the one rotated key that all heads share:
  a_t = norm(W_down x_t);   [k_t,h; v_t,h] = W_up,h a_t;   score = scale (q_t,h . k_s,h + rotated(p_t,h) . r_s)
  with query compression [q_t,h; p_t,h] = W_up' norm(W_down' x_t), without it [q_t,h; p_t,h] = W x_t.
Expanded, this is attention with H heads. Absorbed, W_up moves to the other side of both products,
q . (W_k a) = (W_k^T q) . a  and  sum w (W_v a) = W_v (sum w a): attention with one key head, of width R + W, made of
what is kept. Each pass runs the form that multiplies less: a full pass the expanded one, few queries against many keys
the absorbed one.
Departures: the latent is kept with its norm applied. With DeepSeek's YaRN, scores are sharper (nn/rope_scaling.py).
N tokens, flat · S keys · D model dim · H head · K head dim · V value dim · W rotary width · R rank
Read next: nn/attention/grouped.py, ops/attend.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.base.errors import BadInput
from cutaway.nn.attention.grouped import entropy
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import Fan, QuantisedLinear
from cutaway.nn.rope_scaling import Yarn
from cutaway.nn.stream import Stream
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.forms import FAST, Forms
from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Latent:
    """`rank`: numbers of the latent. `head_dim`: the part of each head's query and key that does not rotate, beside
    `rope.width` numbers that do. `value_dim`: `head_dim` if None. `query_rank`: that of the queries' latent; None, they
    are not compressed. `norm`: that of the latents. `scale`: what scores are multiplied by; if None,
    1/sqrt(head_dim + rope.width), and YaRN's sharpness. `bias` is that of the maps down, `out_bias` that of the
    output's. `absorb`: None runs the form that multiplies less, True and False force one.
    """

    heads: int
    rank: int
    head_dim: int
    rope: Rope
    value_dim: int | None = None
    query_rank: int | None = None
    norm: RMSNorm = field(default_factory=RMSNorm)
    scale: float | None = None
    bias: bool = False
    out_bias: bool = False
    dropout: float = 0.0
    absorb: bool | None = None

    def __post_init__(self) -> None:
        at_least(self, 1, "heads", "rank", "head_dim", "value_dim", "query_rank")
        fractions(self, "dropout")
        if self.scale is not None and not 0.0 < self.scale < math.inf:
            raise BadInput(f"must be positive, is {self.scale}", field="Latent.scale")

    def check(self, length: int | None, *, causal: bool) -> None:
        """It serves wherever attention does."""

    @property
    def value_width(self) -> int:
        return self.head_dim if self.value_dim is None else self.value_dim

    @property
    def score_scale(self) -> float:
        """What scores are multiplied by."""
        if self.scale is not None:
            return self.scale
        sharpness = self.rope.scaling.sharpness if isinstance(self.rope.scaling, Yarn) else 1.0
        return sharpness * (self.head_dim + self.rope.width) ** -0.5

    def build(self, dim: int) -> LatentAttention:
        return LatentAttention(dim, self)

    def streams(self, dim: int) -> tuple[Stream, ...]:
        """One latent and one rotated key per token, whatever the number of heads."""
        return (Stream("latent", (self.rank,)), Stream("rope_key", (self.rope.width,)))

    def absorbs(self, queries: int, keys: int, pairs: int) -> bool:
        """Whether a pass of so many queries, keys and visible pairs of them runs absorbed: where that multiplies less.

        Expanded, W_up meets every key; absorbed, every query, and each pair costs more.
        """
        if self.absorb is not None:
            return self.absorb
        expanded, absorbed = self._products(queries, keys, pairs)
        return absorbed < expanded

    def _products(self, queries: int, keys: int, pairs: int) -> tuple[int, int]:
        """Multiply-adds behind the projections, expanded and absorbed, of one head."""
        plain, turned = self.head_dim + self.value_width, self.rope.width
        expanded = keys * self.rank * plain + pairs * (plain + turned)
        return expanded, queries * self.rank * plain + pairs * (2 * self.rank + turned)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        """The last `tokens` of `length`, in the form that such a pass runs."""
        queries = self.heads * (self.head_dim + self.rope.width)
        total = linear_cost(dim, self.rank + self.rope.width, tokens, bias=self.bias)
        total += self.norm.cost(self.rank, tokens, length)
        if self.query_rank is None:
            total += linear_cost(dim, queries, tokens, bias=False)
        else:
            total += linear_cost(dim, self.query_rank, tokens, bias=self.bias)
            total += self.norm.cost(self.query_rank, tokens, length)
            total += linear_cost(self.query_rank, queries, tokens, bias=False)
        total += linear_cost(self.heads * self.value_width, dim, tokens, bias=self.out_bias)
        pairs = _pairs(tokens, length)
        products = self._products(tokens, length, pairs)[self.absorbs(tokens, length, pairs)]
        return total + Cost(
            parameters=self.rank * self.heads * (self.head_dim + self.value_width),
            flops=2 * self.heads * products,
            cache_bytes=sum(stream.bytes(length) for stream in self.streams(dim)),
        )


def _pairs(queries: int, keys: int) -> int:
    """Visible pairs where each query sees the keys up to its own."""
    return queries * keys - queries * (queries - 1) // 2


class LatentAttention(nn.Module):
    """x (N, D) -> (N, D). Reports `entropy_NH`, each head's entropy in nats, where "attention" is wanted."""

    def __init__(self, dim: int, spec: Latent):
        super().__init__()
        self.spec = spec
        queries = spec.heads * (spec.head_dim + spec.rope.width)
        self.fan = Fan()
        if spec.query_rank is None:
            self.query = Linear(dim, queries)
        else:
            self.query_down = Linear(dim, spec.query_rank, bias=spec.bias)
            self.query_norm = spec.norm.build(spec.query_rank)
            self.query_up = Linear(spec.query_rank, queries)
        self.down = Linear(dim, spec.rank + spec.rope.width, bias=spec.bias)
        self.norm = spec.norm.build(spec.rank)
        self.up = Linear(spec.rank, spec.heads * (spec.head_dim + spec.value_width))
        self.out = Linear(spec.heads * spec.value_width, dim, bias=spec.out_bias)

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        spec = self.spec
        q_NHK, latent_NR, key_NW = self._project(x_ND, context)
        (latent_SR, key_SW), see = context.extend(latent=latent_NR, rope_key=key_NW)
        absorbs = self.absorbs(see, context.forms)
        rows = self.absorbed if absorbs else self.expanded
        q_NHK, k_SGK, v_SGK = rows(q_NHK, latent_SR, key_SW, context)
        told: dict[str, Any] = {"scale": spec.score_scale}
        if context.bias is not None:
            told["bias"] = context.bias(see)
        dropout = spec.dropout if self.training else 0.0
        y_NHV = context.forms.attend(q_NHK, k_SGK, v_SGK, see, dropout=dropout, **told).to(x_ND.dtype)
        if absorbs:
            y_NHV = torch.einsum("nhr,hvr->nhv", y_NHV, self._up(y_NHV)[1])
        report = {}
        if "attention" in context.want:
            report["entropy_NH"] = entropy(q_NHK, k_SGK, see, **told)
        return self.out(y_NHV.flatten(-2), context), report

    def absorbs(self, see: Visible, forms: Forms = FAST) -> bool:
        """Whether a pass under this rule runs absorbed; the forms have a say where the value leaves it open."""
        pairs = sum(_pairs(queries, keys) for queries, keys in zip(see.queries, see.keys, strict=True))
        chosen = self.spec.absorbs(sum(see.queries), sum(see.keys), pairs)
        return chosen if self.spec.absorb is not None else forms.absorb(chosen)

    def expanded(
        self, q_NHK: Tensor, latent_SR: Tensor, key_SW: Tensor, context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all heads; the rotated key is every head's."""
        spec = self.spec
        rows_SHK = self.up(latent_SR.to(q_NHK.dtype), context).unflatten(-1, (spec.heads, -1))
        k_SHK, v_SHV = rows_SHK.split((spec.head_dim, spec.value_width), -1)
        turned_SHW = key_SW.to(q_NHK.dtype)[:, None].expand(-1, spec.heads, -1)
        return q_NHK, torch.cat((k_SHK, turned_SHW), -1), v_SHV

    def absorbed(
        self, q_NHK: Tensor, latent_SR: Tensor, key_SW: Tensor, context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries as wide as what is kept, which is the one head's key; its value is the latent. What is attended to is
        a mean of latents, (N, H, R), which W_up's other part has yet to meet."""
        plain_NHK, turned_NHW = q_NHK.split((self.spec.head_dim, self.spec.rope.width), -1)
        wide_NHR = torch.einsum("nhk,hkr->nhr", plain_NHK, self._up(q_NHK)[0])
        q_NHK = torch.cat((wide_NHR, turned_NHW), -1).to(latent_SR.dtype)  # a cache keeps its own precision
        return q_NHK, torch.cat((latent_SR, key_SW), -1)[:, None], latent_SR[:, None]

    def _project(self, x_ND: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, K + W), latents (N, R) and shared keys (N, W), the latter and W of each query rotated."""
        spec, rope, rotate = self.spec, self.spec.rope, context.forms.rotate
        if spec.query_rank is None:
            q, down = self.fan(x_ND, context, self.query, self.down)
        else:
            q, down = self.fan(x_ND, context, self.query_down, self.down)
            q = self.query_up(self.query_norm(q, context), context)
        plain_NHK, turned_NHW = q.unflatten(-1, (spec.heads, -1)).split((spec.head_dim, rope.width), -1)
        latent_NR, key_NW = down.split((spec.rank, rope.width), -1)
        # As in nn/attention/grouped.py: angles in bfloat16 would blur positions.
        wide = x_ND.dtype if context.narrow is None else torch.float32
        cos, sin = context.once((rope, wide), lambda: rope.tables(context, wide))
        turned_NHW = rotate(turned_NHW, cos, sin, interleaved=rope.interleaved).to(x_ND.dtype)
        key_NW = rotate(key_NW[:, None], cos, sin, interleaved=rope.interleaved)[:, 0].to(x_ND.dtype)
        return torch.cat((plain_NHK, turned_NHW), -1), self.norm(latent_NR, context), key_NW

    def _up(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """W_up by heads: that of keys (H, K, R) and that of values (H, V, R)."""
        up: nn.Module = self.up
        weight = dequantise(up.packed.blocks, up.packed.format) if isinstance(up, QuantisedLinear) else self.up.weight
        by_heads = weight.to(like.dtype).unflatten(0, (self.spec.heads, -1))
        keys, values = by_heads.split((self.spec.head_dim, self.spec.value_width), 1)
        return keys, values
