"""Block-sparse attention: grouped queries under a fixed mask of blocks, any mask that is written down.

Sparse Transformers (Child et al. 2019, arXiv 1904.10509), section 4.3; BigBird (Zaheer et al. 2020, arXiv 2007.14062).
  y_t = attend(q_t, k_C, v_C) W_o,   C = the tokens s <= t of the key blocks that the mask has for t's own block
Departures: one mask for all heads, where Child et al. may give each its own; a text ends where the mask does.
N tokens, flat · S keys · D model dim · H query head · G kv head · K head dim · J place in a block's list
Read next: ops/block_sparse.py, nn/attention/native_sparse.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import Fan
from cutaway.nn.stream import Stream

Mask = tuple[tuple[int, ...], ...]  # for each block of queries, the numbers of the key blocks that it sees


def mask(blocks: int, *, near: int, first: int = 0, every: int = 0) -> Mask:
    """Of so many blocks each sees its own and the `near` - 1 before it, the `first` ones, and each `every`-th (the last
    of every run of so many: Child et al.'s fixed pattern)."""
    if min(blocks, near) < 1 or min(first, every) < 0:
        raise BadInput(f"no mask of {blocks} blocks has near={near}, first={first}, every={every}", field="mask")
    return tuple(
        tuple(
            column
            for column in range(row + 1)
            if row - column < near or column < first or (every and column % every == every - 1)
        )
        for row in range(blocks)
    )


@dataclass(frozen=True, kw_only=True)
class BlockSparse:
    """`seen[r]`: the key blocks, of `block` tokens each, that the queries of block r see as far as they are not later.
    `scale`: what scores are multiplied by, 1/sqrt(head_dim) if None. `bias`: that of the q, k and v projections."""

    heads: int
    kv_heads: int
    head_dim: int
    block: int
    seen: Mask
    rope: Rope | None = None
    scale: float | None = None
    bias: bool = False
    out_bias: bool = False

    def __post_init__(self) -> None:
        at_least(self, 1, "heads", "kv_heads", "head_dim", "block")
        if self.heads % self.kv_heads:
            raise BadInput(f"{self.heads} heads cannot share {self.kv_heads} kv heads", field="BlockSparse.kv_heads")
        if not any(self.seen):
            raise BadInput("lets nothing be seen", field="BlockSparse.seen")
        for row, columns in enumerate(self.seen):
            if len(set(columns)) != len(columns) or not all(0 <= column <= row for column in columns):
                said = f"block {row} may see blocks 0 to {row}, each named once, not {columns}"
                raise BadInput(said, field="BlockSparse.seen")
        if self.scale is not None and not 0.0 < self.scale < math.inf:
            raise BadInput(f"must be positive, is {self.scale}", field="BlockSparse.scale")
        if self.rope is not None and self.rope.width > self.head_dim:
            raise BadInput(f"rotates {self.rope.width} of {self.head_dim} dims", field="BlockSparse.rope")

    def check(self, length: int | None, *, causal: bool) -> None:
        """The mask goes as far as the longest text, which is read left to right."""
        if not causal:
            raise BadInput("block-sparse attention reads left to right", field="BlockSparse")
        if length is not None:
            self.reads(length)

    def build(self, dim: int) -> BlockSparseAttention:
        return BlockSparseAttention(dim, self)

    def streams(self, dim: int) -> tuple[Stream, ...]:
        """All keys and values: a later block may see any of them."""
        shape = (self.kv_heads, self.head_dim)
        return (Stream("key", shape), Stream("value", shape))

    def reads(self, length: int) -> int:
        """Keys that the last of `length` tokens reads."""
        if length > len(self.seen) * self.block:
            said = f"the mask's {len(self.seen)} blocks of {self.block} end before token {length}"
            raise BadInput(said, field="BlockSparse.seen")
        own, within = divmod(length - 1, self.block)
        return sum(within + 1 if column == own else self.block for column in self.seen[own])

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        """The last `tokens` of `length`: four projections, then scores and weighted sum over what each reads."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        total = linear_cost(dim, queries, tokens, bias=self.bias)
        total += linear_cost(dim, keys, tokens, bias=self.bias) * 2
        total += linear_cost(queries, dim, tokens, bias=self.out_bias)
        pairs = sum(self.reads(seen) for seen in range(length - tokens + 1, length + 1))
        held = sum(stream.bytes(length) for stream in self.streams(dim))
        return total + Cost(flops=2 * 2 * queries * pairs, cache_bytes=held)


class BlockSparseAttention(nn.Module):
    """x (N, D) -> (N, D); reports nothing."""

    table_RJ: Tensor

    def __init__(self, dim: int, spec: BlockSparse):
        super().__init__()
        self.spec = spec
        self.scale = spec.head_dim**-0.5 if spec.scale is None else spec.scale
        queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.fan = Fan()
        self.query = Linear(dim, queries, bias=spec.bias)
        self.key = Linear(dim, keys, bias=spec.bias)
        self.value = Linear(dim, keys, bias=spec.bias)
        self.out = Linear(queries, dim, bias=spec.out_bias)
        most = max(map(len, spec.seen))
        rows = [[*columns, *[-1] * (most - len(columns))] for columns in spec.seen]
        self.register_buffer("table_RJ", torch.tensor(rows), persistent=False)

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        spec, forms = self.spec, context.forms
        if not context.causal or context.prefix is not None or context.bias is not None:
            said = "block-sparse attention reads left to right, without a prefix or a bias"
            raise BadInput(said, field="BlockSparse")
        q, k, v = self.fan(x_ND, context, self.query, self.key, self.value)
        q_NHK = q.view(-1, spec.heads, spec.head_dim)
        k_NGK, v_NGK = (one.view(-1, spec.kv_heads, spec.head_dim) for one in (k, v))
        if spec.rope is not None:
            # Angles in bfloat16 would blur positions: against wider tables, the product below widens q and k.
            rope, wide = spec.rope, x_ND.dtype if context.narrow is None else torch.float32
            cos, sin = context.once((rope, wide), lambda: rope.tables(context, wide))
            q_NHK, k_NGK = (forms.rotate(one, cos, sin, interleaved=rope.interleaved) for one in (q_NHK, k_NGK))
        (k_SGK, v_SGK), see = context.extend(key=k_NGK, value=v_NGK)
        spec.reads(max(see.keys, default=1) or 1)  # refuses what the mask does not reach
        q_NHK, v_SGK = q_NHK.to(k_SGK.dtype), v_SGK.to(k_SGK.dtype)  # a cache keeps its own precision
        chosen_NJ = context.once(("blocks", spec.block, spec.seen), lambda: self._chosen(see.queries, see.keys))
        chosen_NGJ = chosen_NJ[:, None].expand(-1, spec.kv_heads, -1)
        y_NHK = forms.attend_blocks(q_NHK, k_SGK, v_SGK, see, chosen_NGJ, block=spec.block, scale=self.scale)
        return self.out(y_NHK.flatten(-2).to(x_ND.dtype), context), {}

    def _chosen(self, queries: tuple[int, ...], keys: tuple[int, ...]) -> Tensor:
        """What the mask has for each query's block, (N, J)."""
        spans = [torch.arange(end - new, end) for new, end in zip(queries, keys, strict=True)]
        places_N = torch.cat([torch.arange(0), *spans])
        return self.table_RJ[places_N.to(self.table_RJ.device) // self.spec.block]
