"""Grouped-query attention: several query heads share each key-value head. One value for MHA, MQA and GQA.

Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.2 (MHA: kv_heads = heads); Shazeer 2019 (arXiv 1911.02150)
(MQA: kv_heads = 1); Ainslie et al. 2023 (arXiv 2305.13245) (GQA: in between).   y = attend(x W_q, x W_k, x W_v) W_o
N tokens, flat · S keys · D model dim · H query head · G kv head · K head dim
Read next: ops/attend.py, nn/positions.py, nn/cache.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.base.errors import BadInput
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.sinks import beyond, clamped, halves
from cutaway.nn.context import Apart, Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import Fan
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.nn.stream import Stream
from cutaway.ops.attend import Bias, attention_weights
from cutaway.ops.choice import Form
from cutaway.ops.multiply.narrow import scored
from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True)
class GroupedQuery:
    """`window`: sees so many tokens, itself included. `sinks`: so many first ones stay seen from beyond it, positions
    are those within the rolling cache (nn/attention/sinks.py). `alibi`: distances instead of rotations.
    `scale`: what scores are multiplied by, 1/sqrt(head_dim) if None.
    `head_norm`: the norm of each head's query and key (QK-norm, Qwen3, Gemma 3). `softcap`: Gemma 2's bound on scores.
    `gated`: what a head gives is multiplied by the sigmoid of a linear map of the input, number by number (Qiu et al.
    2025, arXiv 2505.06708: no more need for sinks). `bias` is that of the q, k and v projections, and of the gate's;
    `out_bias` that of the output's. `dropout` acts on the weights.
    """

    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope | None = None
    window: int | None = None
    scale: float | None = None
    softcap: float | None = None
    head_norm: RMSNorm | LayerNorm | None = None
    bias: bool = False
    out_bias: bool = False
    dropout: float = 0.0
    sinks: int = 0
    alibi: Alibi | None = None
    gated: bool = False

    def __post_init__(self) -> None:
        at_least(self, 1, "heads", "kv_heads", "head_dim", "window")
        if self.heads % self.kv_heads:
            raise BadInput(f"{self.heads} heads cannot share {self.kv_heads} kv heads", field="GroupedQuery.kv_heads")
        fractions(self, "dropout")
        for name in ("scale", "softcap"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise BadInput(f"must be positive, is {value}", field=f"GroupedQuery.{name}")
        if self.rope is not None and self.rope.width > self.head_dim:
            raise BadInput(f"rotates {self.rope.width} of {self.head_dim} dims", field="GroupedQuery.rope")
        if self.alibi is not None and self.rope is not None:
            raise BadInput("stands in the place of a rope: there is one", field="GroupedQuery.alibi")
        if self.sinks < 0 or (self.sinks and self.window is None):
            raise BadInput(f"must be at least 0, and go with a window; is {self.sinks}", field="GroupedQuery.sinks")
        if self.sinks and self.rope is not None and isinstance(self.rope.scaling, DynamicNtk):
            raise BadInput(
                "dynamic NTK turns by the prompt's length, a rolling cache has none", field="GroupedQuery.sinks"
            )

    def check(self, length: int | None, *, causal: bool) -> None:
        """A window, its sinks included, lies within the longest text; sinks are first tokens, seen from behind."""
        if self.window is not None and length is not None and self.window + self.sinks > length:
            sinks = f" and {self.sinks} sinks" if self.sinks else ""
            said = f"{self.window} tokens{sinks} are more than the {length} of the longest text"
            raise BadInput(said, field="GroupedQuery.window")
        if self.sinks and not causal:
            raise BadInput("need a model that reads from left to right", field="GroupedQuery.sinks")

    def build(self, dim: int) -> GroupedQueryAttention:
        return GroupedQueryAttention(dim, self)

    def streams(self, dim: int) -> tuple[Stream, ...]:
        """One key and one value per kv head and token; under a window only the last ones, and the sinks."""
        shape = (self.kv_heads, self.head_dim)
        kept = {"last": self.window, "first": self.sinks}
        return (Stream("key", shape, **kept), Stream("value", shape, **kept))

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        """The last `tokens` of `length`: four projections, then scores and weighted sum over the keys each may see."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        total = linear_cost(dim, queries, tokens, bias=self.bias) * (1 + self.gated)
        total += linear_cost(dim, keys, tokens, bias=self.bias) * 2
        total += linear_cost(queries, dim, tokens, bias=self.out_bias)
        if self.head_norm is not None:
            norm = self.head_norm.cost(self.head_dim, tokens, length)
            total += Cost(parameters=2 * norm.parameters, flops=(self.heads + self.kv_heads) * norm.flops)
        most = length if self.window is None else self.window + self.sinks
        pairs = sum(min(seen, most) for seen in range(length - tokens + 1, length + 1))
        wide = self.sinks and self.rope and self.window and beyond(length, self.window, self.sinks)
        return total + Cost(
            flops=2 * (3 if wide else 2) * queries * pairs,
            cache_bytes=sum(stream.bytes(length) for stream in self.streams(dim)),
        )


class GroupedQueryAttention(nn.Module):
    """x (N, D) -> (N, D). Reports `entropy_NH`, each head's entropy in nats, where "attention" is wanted."""

    def __init__(self, dim: int, spec: GroupedQuery):
        super().__init__()
        self.spec = spec
        self.scale = spec.head_dim**-0.5 if spec.scale is None else spec.scale
        queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.fan = Fan()
        self.query = Linear(dim, queries, bias=spec.bias)
        self.key = Linear(dim, keys, bias=spec.bias)
        self.value = Linear(dim, keys, bias=spec.bias)
        self.gate = Linear(dim, queries, bias=spec.bias) if spec.gated else None
        self.out = Linear(queries, dim, bias=spec.out_bias)
        self.query_norm = spec.head_norm.build(spec.head_dim) if spec.head_norm else None
        self.key_norm = spec.head_norm.build(spec.head_dim) if spec.head_norm else None

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        # Angles in bfloat16 would blur positions: against wider tables, `rotate` widens q and k.
        wide = x_ND.dtype if context.narrow is None else torch.float32
        q_NHK, k_NGK, v_NGK = self._heads(x_ND, context, wide)
        own: Any = self._modules  # as in nn/block.py
        if self._in_pages(context):
            y_NHK, report = self._step(q_NHK, k_NGK, v_NGK, context), {}
        else:
            y_NHK, report = self._attend(q_NHK, k_NGK, v_NGK, context)
        y_NQ = y_NHK.flatten(-2).to(x_ND.dtype)
        if self.spec.gated:
            y_NQ = y_NQ * own["gate"](x_ND, context).sigmoid()
        return own["out"](y_NQ, context), report

    def _in_pages(self, context: Context) -> bool:
        """Whether the pass's first sequences attend to pages where they lie: nothing stands between rows and scores."""
        odd = self.spec.sinks or self.spec.alibi or context.bias or context.prefix or "attention" in context.want
        return context.apart is not None and context.forms.in_pages is not None and not odd

    def _step(self, q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor, context: Context) -> Tensor:
        """The first sequences' one query each, all at once; then the others."""
        steps, attend_paged = cast(Apart, context.apart).steps, cast(Form, context.forms.in_pages)
        first, window = len(steps.lengths), self.spec.window
        steps.append(context.layer, "key", k_NGK[:first], (1,) * first)
        steps.append(context.layer, "value", v_NGK[:first], (1,) * first)
        keys_PCGK, paged = steps.placed(context.layer, "key", window)
        values_PCGK, _ = steps.placed(context.layer, "value", window)
        q_BHK = q_NHK[:first].to(keys_PCGK.dtype)
        y_NHK = attend_paged(q_BHK, keys_PCGK, values_PCGK, paged, scale=self.scale, softcap=self.spec.softcap)
        if first == q_NHK.shape[0]:
            return y_NHK
        rest_NHK, _ = self._attend(q_NHK[first:], k_NGK[first:], v_NGK[first:], context.rest())
        return torch.cat((y_NHK, rest_NHK.to(y_NHK.dtype)))

    def _attend(self, q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        """Each query's mean of the values that it sees; keys and values are kept."""
        spec, forms = self.spec, context.forms
        wide = q_NHK.dtype if context.narrow is None else torch.float32
        far_NHK = None
        if spec.rope is not None and spec.sinks and spec.window is not None:
            far_NHK = clamped(q_NHK, spec.rope, context, spec.window, spec.sinks, wide)
            q_NHK, k_NGK = (self._turn(spec.rope, x, context, wide) for x in (q_NHK, k_NGK))
        (k_SGK, v_SGK), see = context.extend(window=spec.window, sinks=spec.sinks, key=k_NGK, value=v_NGK)
        if far_NHK is not None:
            q_NHK, k_SGK = halves(q_NHK, far_NHK, k_SGK, see)
        dtype = scored(len(q_NHK), context.narrow, k_SGK.dtype)  # else a cache keeps its own precision
        q_NHK, k_SGK, v_SGK = q_NHK.to(dtype), k_SGK.to(dtype), v_SGK.to(dtype)
        dropout = spec.dropout if self.training else 0.0
        told = self._told(see, context)
        y_NHK = forms.attend(q_NHK, k_SGK, v_SGK, see, scale=self.scale, softcap=spec.softcap, dropout=dropout, **told)
        report = {}
        if "attention" in context.want:
            report["entropy_NH"] = entropy(q_NHK, k_SGK, see, scale=self.scale, softcap=spec.softcap, **told)
        return y_NHK, report

    def _heads(self, x_ND: Tensor, context: Context, wide: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, K), keys and values (N, G, K); queries and keys normed and turned."""
        heads, kv_heads, head_dim = self.spec.heads, self.spec.kv_heads, self.spec.head_dim
        own: Any = self._modules  # as in nn/block.py
        maps = own["query"], own["key"], own["value"]
        if self.query_norm is None or self.key_norm is None:
            whole = self.fan.whole(x_ND, context, *maps)
            if whole is not None:  # q and k lie side by side, as X = H + G heads, and turn in one go
                whole_NYK = whole.view(-1, heads + 2 * kv_heads, head_dim)
                q_and_k_NXK, v_NGK = whole_NYK.split_with_sizes((heads + kv_heads, kv_heads), 1)
                q_NHK, k_NGK = self._turned(q_and_k_NXK, context, wide).split_with_sizes((heads, kv_heads), 1)
                return q_NHK, k_NGK, v_NGK
        q, k, v = self.fan(x_ND, context, *maps)
        q_NHK, k_NGK = q.view(-1, heads, head_dim), k.view(-1, kv_heads, head_dim)
        if self.query_norm is not None and self.key_norm is not None:
            q_NHK, k_NGK = self.query_norm(q_NHK, context), self.key_norm(k_NGK, context)
        q_NHK, k_NGK = self._turned(q_NHK, context, wide), self._turned(k_NGK, context, wide)
        return q_NHK, k_NGK, v.view(-1, kv_heads, head_dim)

    def _turned(self, x_NHK: Tensor, context: Context, wide: torch.dtype) -> Tensor:
        """The heads turned by their tokens' positions; as they are where there is no rope, or sinks ask for more."""
        rope = self.spec.rope
        return x_NHK if rope is None or self.spec.sinks else self._turn(rope, x_NHK, context, wide)

    @staticmethod
    def _turn(rope: Rope, x_NHK: Tensor, context: Context, wide: torch.dtype) -> Tensor:
        # All layers with an equal rope share one pair of tables per pass.
        cos, sin = context.once((rope, wide), lambda: rope.tables(context, wide))
        return context.forms.rotate(x_NHK, cos, sin, interleaved=rope.interleaved)

    def _told(self, see: Visible, context: Context) -> dict[str, Bias]:
        """The bias, of ALiBi or of the stack, as `attend` takes it; nothing where there is none."""
        if self.spec.alibi is None:
            return {} if context.bias is None else {"bias": context.bias(see)}
        if context.bias is not None:
            raise BadInput("the stack has a bias of its own", field="GroupedQuery.alibi")
        return {"bias": self.spec.alibi.bias(see, self.spec.heads, context)}


def entropy(
    q_NHK: Tensor,
    k_SGK: Tensor,
    see: Visible,
    *,
    scale: float,
    softcap: float | None = None,
    bias: Bias | None = None,
) -> Tensor:
    """Of each query's and head's weights, in nats, as (N, H)."""
    found = []
    for index, (q_THK, k_sGK) in enumerate(zip(q_NHK.split(see.queries), k_SGK.split(see.keys), strict=True)):
        bias_HTS = None if bias is None else bias(index)
        mask_TS = see.mask(index, q_THK.device)
        weights_HTS = attention_weights(q_THK, k_sGK, mask_TS, scale=scale, softcap=softcap, bias_HTS=bias_HTS)
        found.append(torch.special.entr(weights_HTS).sum(-1).transpose(0, 1))
    return torch.cat(found) if found else q_NHK.new_zeros(0, q_NHK.shape[1])
