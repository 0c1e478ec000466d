"""A stack of blocks with what stands before and behind them: positions, a bias shared by all layers, a last norm.

Vaswani et al. 2017 (arXiv 1706.03762), figure 1: an encoder is one such stack, a decoder another.
N tokens of all sequences, flat · D model dim.   Read next: models/encoder_decoder.py, nn/block.py
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.nn.block import Block, Norm, through
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost
from cutaway.nn.positions import Learned, Sinusoidal
from cutaway.nn.relative_bias import RelativeBias
from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Stack:
    """`relative`: T5's bias, one table for all blocks. `norm`: that behind the last block (pre-norm stacks)."""

    blocks: tuple[Block, ...]
    norm: Norm | None = None
    positions: Learned | Sinusoidal | None = None
    relative: RelativeBias | None = None

    def __post_init__(self) -> None:
        if not self.blocks:
            raise BadInput("a stack needs at least one block", field="Stack.blocks")
        if self.relative is not None:
            if any(getattr(block.mixer, "alibi", None) is not None for block in self.blocks):
                raise BadInput("stands beside an ALiBi: scores take one bias", field="Stack.relative")
            heads = {getattr(block.mixer, "heads", self.relative.heads) for block in self.blocks}
            if heads != {self.relative.heads}:
                said = f"is for {self.relative.heads} heads, the blocks have {sorted(heads)}"
                raise BadInput(said, field="Stack.relative")

    @property
    def length(self) -> int | None:
        """The longest sequence it was made for; None where nothing bounds it."""
        return None if self.positions is None else self.positions.length

    def build(self, dim: int, dropout: float = 0.0) -> StackModule:
        return StackModule(dim, self, dropout)

    def cost(self, dim: int, tokens: int, length: int, source: int | None = None) -> Cost:
        """The last `tokens` of `length`; `source`: tokens of what cross parts read."""
        outer = [part.cost(dim, tokens, length) for part in (self.norm, self.positions, self.relative) if part]
        # Equal blocks cost the same: each kind is counted once.
        blocks = [block.cost(dim, tokens, length, source) * count for block, count in Counter(self.blocks).items()]
        return sum([*outer, *blocks], Cost())


class StackModule(nn.Module):
    """embeddings (N, D) -> the residual (N, D) behind the last block; `norm` is left to the caller."""

    def __init__(self, dim: int, spec: Stack, dropout: float):
        super().__init__()
        self.spec, self.dropout = spec, dropout
        self.positions = spec.positions.build(dim) if spec.positions else None
        self.relative = spec.relative.build() if spec.relative else None
        self.blocks = nn.ModuleList(block.build(dim) for block in spec.blocks)
        self.norm = spec.norm.build(dim) if spec.norm else None

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        self._check_length(context)
        if self.positions is not None:
            x_ND = x_ND + self.positions(context.positions_N).to(x_ND.dtype)
        if self.dropout and self.training:
            x_ND = F.dropout(x_ND, self.dropout)
        if self.relative is not None:
            context = replace(context, bias=self.relative(_rule(context)))
        return through(self.blocks, x_ND, context)

    def normed(self, x_ND: Tensor, context: Context) -> Tensor:
        """The residual behind the last norm, where there is one."""
        return x_ND if self.norm is None else self.norm(x_ND, context)

    def _check_length(self, context: Context) -> None:
        longest = max(_reach(context), default=0)
        if self.spec.length is not None and longest > self.spec.length:
            said = f"a sequence has {longest} tokens, the stack's most is {self.spec.length}"
            raise BadInput(said, field="lengths")


def _reach(context: Context) -> tuple[int, ...]:
    """Tokens of each sequence, those of this pass included."""
    if context.cache is None:
        return context.lengths
    return tuple(held + new for held, new in zip(context.cache.lengths, context.lengths, strict=True))


def _rule(context: Context) -> Visible:
    """The queries and keys of a pass in which nothing has been dropped."""
    return Visible(queries=context.lengths, keys=_reach(context), causal=context.causal)
