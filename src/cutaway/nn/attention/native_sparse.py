"""Native sparse attention (NSA): each query reads all blocks in short, a few of them in full, and its neighbours.

Yuan et al. 2025 (arXiv 2502.11089), equations 5 to 12.   y = sum over branches c of gate_c(x) attend(q, k_c, v_c)
  compressed  one key and value for each block of l tokens, a block every d       (nn/attention/compression.py)
  selected    the tokens of the n blocks of l' that the compressed ones point at  (nn/attention/selection.py)
  window      the last w tokens
Each branch has keys and values of its own; queries are shared. Each gate is the sigmoid of a linear map of the input,
one number for each token, branch and head.
Causal: a query sees the compressed blocks that end at or before it, and of its own selected block what is not later.
Departures: the paper does not say where RoPE acts. Here it turns queries and keys of selection and window; compression
compares unturned ones, its places within a block are learned: one MLP would meet a block's content turned differently
at each place of the text. A linear map gates, where the paper names an MLP.
N tokens, flat · S keys · T query position · C compressed rows · D model dim · H query head · G kv head · K head dim
Read next: nn/attention/compression.py, nn/attention/selection.py, ops/block_sparse.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.nn.attention.compression import Compression, compressed, streams, whole
from cutaway.nn.attention.selection import choose, importance
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import Fan
from cutaway.nn.stream import Stream
from cutaway.ops.attend import attention_weights

BRANCHES = ("compressed", "selected", "window")
RUN = 128
"""Queries whose weights over all compressed blocks are held at once."""


@dataclass(frozen=True, kw_only=True)
class NativeSparse:
    """`block`: tokens of a compressed block (l), one every `stride` (d). `select`: tokens of a selectable block (l'),
    of which each query reads `top_k` (n): the first, its own, the one before, and the most important others. `window`:
    sees so many tokens, itself included (w). `hidden`: width within the compressing MLPs, `head_dim` if None. `scale`:
    what scores are multiplied by, 1/sqrt(head_dim) if None. `bias`: that of the q, k and v projections.
    """

    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope | None = None
    block: int = 32
    stride: int = 16
    select: int = 64
    top_k: int = 16
    window: int = 512
    hidden: int | None = None
    scale: float | None = None
    bias: bool = False
    out_bias: bool = False

    def __post_init__(self) -> None:
        at_least(self, 1, "heads", "kv_heads", "head_dim", "block", "stride", "select", "window", "hidden")
        if self.heads % self.kv_heads:
            raise BadInput(f"{self.heads} heads cannot share {self.kv_heads} kv heads", field="NativeSparse.kv_heads")
        for name in ("block", "select"):
            if getattr(self, name) % self.stride:
                said = f"{getattr(self, name)} tokens are no whole number of strides of {self.stride}"
                raise BadInput(said, field=f"NativeSparse.{name}")
        if self.block > self.select:
            # Then a block could be selectable into which no compressed one fits: nothing would tell its importance.
            said = f"a compressed block of {self.block} tokens does not fit into a selectable one of {self.select}"
            raise BadInput(said, field="NativeSparse.block")
        if self.top_k < 3:
            said = f"must be at least 3 (the first block, the own, the one before), is {self.top_k}"
            raise BadInput(said, field="NativeSparse.top_k")
        if self.scale is not None and not 0.0 < self.scale < math.inf:
            raise BadInput(f"must be positive, is {self.scale}", field="NativeSparse.scale")
        if self.rope is not None and self.rope.width > self.head_dim:
            raise BadInput(f"rotates {self.rope.width} of {self.head_dim} dims", field="NativeSparse.rope")

    def check(self, length: int | None, *, causal: bool) -> None:
        """The longest text holds a block, a window and as many blocks as are chosen; it is read left to right."""
        if not causal:
            raise BadInput("native sparse attention reads left to right", field="NativeSparse")
        if length is None:
            return
        for name in ("block", "window"):
            if getattr(self, name) > length:
                said = f"{getattr(self, name)} tokens are more than the {length} of the longest text"
                raise BadInput(said, field=f"NativeSparse.{name}")
        blocks = -(-length // self.select)
        if self.top_k > blocks:
            said = f"{self.top_k} blocks cannot be chosen: {length} tokens, the longest text, are {blocks}"
            raise BadInput(f"{said} of {self.select}", field="NativeSparse.top_k")

    def build(self, dim: int) -> NativeSparseAttention:
        return NativeSparseAttention(dim, self)

    def streams(self, dim: int) -> tuple[Stream, ...]:
        """Compressed rows, the raw ones that the next is made of, all keys and values to select from, and a window."""
        shape = (self.kv_heads, self.head_dim)
        kept = [Stream("selected_key", shape), Stream("selected_value", shape)]
        kept += [Stream(f"window_{name}", shape, last=self.window) for name in ("key", "value")]
        return (*streams(shape, self.block, self.stride), *kept)

    def reads(self, length: int) -> tuple[int, int, int]:
        """Keys that the last of `length` tokens reads in each branch: compressed, selected, window."""
        others = min(self.top_k - 1, (length - 1) // self.select)  # blocks beside its own, which ends with it
        selected = others * self.select + (length - 1) % self.select + 1
        return whole(length, self.block, self.stride), selected, min(length, self.window)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        """The last `tokens` of `length`: exactly what such a pass multiplies, averaged over nothing. A single token
        compresses a block where it ends one, every `stride` tokens."""
        queries, keys, hidden = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden or self.head_dim
        total = linear_cost(dim, queries, tokens, bias=self.bias)
        total += linear_cost(dim, keys, tokens, bias=self.bias) * (2 * len(BRANCHES))
        total += linear_cost(dim, len(BRANCHES) * self.heads, tokens, bias=True)
        total += linear_cost(queries, dim, tokens, bias=self.out_bias)
        ended = whole(length, self.block, self.stride) - whole(length - tokens, self.block, self.stride)
        rows = ended * self.kv_heads
        phi = linear_cost(self.block * self.head_dim, hidden, rows, bias=False)
        phi += linear_cost(hidden, self.head_dim, rows, bias=False)
        total += (phi + Cost(parameters=self.block * self.head_dim)) * 2
        pairs = sum(sum(self.reads(seen)) for seen in range(length - tokens + 1, length + 1))
        held = sum(stream.bytes(length) for stream in self.streams(dim))
        return total + Cost(flops=2 * 2 * queries * pairs, cache_bytes=held)


class NativeSparseAttention(nn.Module):
    """x (N, D) -> (N, D). Where "attention" is wanted, reports `gates_NBH`, one for each branch and head, and
    `chosen_NGJ`, the numbers of the blocks that were selected."""

    def __init__(self, dim: int, spec: NativeSparse):
        super().__init__()
        self.spec = spec
        self.scale = spec.head_dim**-0.5 if spec.scale is None else spec.scale
        queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.fan = Fan()
        self.query = Linear(dim, queries, bias=spec.bias)
        self.keys = nn.ModuleDict({branch: Linear(dim, keys, bias=spec.bias) for branch in BRANCHES})
        self.values = nn.ModuleDict({branch: Linear(dim, keys, bias=spec.bias) for branch in BRANCHES})
        hidden = spec.hidden or spec.head_dim
        self.compress_key = Compression(spec.block, spec.head_dim, hidden)
        self.compress_value = Compression(spec.block, spec.head_dim, hidden)
        self.gate = Linear(dim, len(BRANCHES) * spec.heads, bias=True)
        self.out = Linear(queries, dim, bias=spec.out_bias)

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        spec, forms = self.spec, context.forms
        _refuse_others(context)
        projections = (self.query, *self.keys.values(), *self.values.values())
        q, *rows = self.fan(x_ND, context, *projections)
        q_NHK = q.view(-1, spec.heads, spec.head_dim)
        kc, ks, kw, vc, vs, vw = (row.view(-1, spec.kv_heads, spec.head_dim) for row in rows)
        short_NHK, chosen_NGJ = self._compressed(q_NHK, kc, vc, context)
        if spec.rope is not None:
            # Angles in bfloat16 would blur positions: against wider tables, the product below widens q and k.
            rope, wide = spec.rope, x_ND.dtype if context.narrow is None else torch.float32
            cos, sin = context.once((rope, wide), lambda: rope.tables(context, wide))
            q_NHK, ks, kw = (forms.rotate(one, cos, sin, interleaved=rope.interleaved) for one in (q_NHK, ks, kw))
        (ks_SGK, vs_SGK), see = context.extend(selected_key=ks, selected_value=vs)
        (kw_SGK, vw_SGK), near = context.extend(window=spec.window, window_key=kw, window_value=vw)
        q_NHK = q_NHK.to(ks_SGK.dtype)  # a cache keeps its own precision
        vs_SGK, vw_SGK = vs_SGK.to(ks_SGK.dtype), vw_SGK.to(ks_SGK.dtype)
        full_NHK = forms.attend_blocks(q_NHK, ks_SGK, vs_SGK, see, chosen_NGJ, block=spec.select, scale=self.scale)
        near_NHK = forms.attend(q_NHK, kw_SGK, vw_SGK, near, scale=self.scale)
        gates_NBH = self.gate(x_ND, context).sigmoid().unflatten(-1, (len(BRANCHES), spec.heads))
        y_NBHK = torch.stack([one.to(x_ND.dtype) for one in (short_NHK, full_NHK, near_NHK)], 1)
        y_NHK = (gates_NBH.unsqueeze(-1) * y_NBHK).sum(1)
        report = {"gates_NBH": gates_NBH, "chosen_NGJ": chosen_NGJ} if "attention" in context.want else {}
        return self.out(y_NHK.flatten(-2), context), report

    def _compressed(self, q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """The compressed branch's y (N, H, K), and the blocks (N, G, top_k) that its weights choose."""
        spec, made = self.spec, (self.compress_key, self.compress_value)
        (keys, values), ends = compressed(made, (k_NGK, v_NGK), context, spec.block, spec.stride)
        none_NGJ = torch.empty(0, spec.kv_heads, spec.top_k, dtype=torch.long, device=q_NHK.device)
        outputs, choices = [q_NHK[:0]], [none_NGJ]
        for q_THK, k_CGK, v_CGK, end in zip(q_NHK.split(context.lengths), keys, values, ends, strict=True):
            place_T = torch.arange(end - q_THK.shape[0], end, device=q_NHK.device)
            if not place_T.numel():  # brings nothing to this pass
                continue
            for q_tHK, place_t in zip(q_THK.split(RUN), place_T.split(RUN), strict=True):
                y_tHK, chosen_tGJ = self._pointed(q_tHK, k_CGK, v_CGK, place_t, end)
                outputs.append(y_tHK)
                choices.append(chosen_tGJ)
        return torch.cat(outputs), torch.cat(choices)

    def _pointed(self, q_THK: Tensor, k_CGK: Tensor, v_CGK: Tensor, place_T: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Some queries of one sequence of `end` tokens over its compressed rows: y (T, H, K), and what they choose."""
        spec, groups = self.spec, self.spec.kv_heads
        last_C = torch.arange(k_CGK.shape[0], device=place_T.device) * spec.stride + spec.block - 1
        weights_HTC = attention_weights(q_THK, k_CGK, last_C <= place_T[:, None], scale=self.scale)
        v_G1CK = v_CGK.transpose(0, 1)[:, None].to(weights_HTC.dtype)
        y_HTK = (weights_HTC.unflatten(0, (groups, -1)) @ v_G1CK).flatten(0, 1)
        blocks = -(-end // spec.select)
        sizes = {"block": spec.block, "stride": spec.stride, "select": spec.select}
        with torch.no_grad():  # a block's number has no gradient
            found_GTJ = importance(weights_HTC, groups, blocks, **sizes)
            chosen_TGJ = choose(found_GTJ, place_T, select=spec.select, top_k=spec.top_k)
        return y_HTK.transpose(0, 1).to(q_THK.dtype), chosen_TGJ


def _refuse_others(context: Context) -> None:
    if not context.causal or context.prefix is not None or context.bias is not None:
        said = "native sparse attention reads left to right, without a prefix or a bias"
        raise BadInput(said, field="NativeSparse")
