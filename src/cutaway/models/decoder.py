"""A decoder: token table, blocks, head. GPT, Llama, Qwen, Gemma and Mistral differ only in the value.

Radford et al. 2018 (GPT-1), 2019 (GPT-2); Touvron et al. 2023 (arXiv 2302.13971); Gemma 2 (arXiv 2408.00118).
x = E[ids] (+ positions);  x = block(x) for each block;  logits = norm(x) E^T
N tokens of all sequences, flat · X of them that are asked for logits · D model dim · V vocabulary · L layer
Read next: nn/block.py, nn/context.py
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.base.errors import BadInput
from cutaway.nn.block import Block, Norm, through
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost
from cutaway.nn.embedding import Embedding
from cutaway.nn.linear import Linear
from cutaway.nn.positions import Learned, Sinusoidal
from cutaway.nn.stream import Stream


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """`length`: the longest sequence it was made for. `tied`: the head is the token table. `embedding_scale`: what rows
    of the table are multiplied by (Gemma: sqrt(dim)). `softcap`: the bound on logits, cap * tanh(x / cap) (Gemma 2).
    """

    vocab: int
    dim: int
    blocks: tuple[Block, ...]
    length: int
    norm: Norm | None = None
    positions: Learned | Sinusoidal | None = None
    tied: bool = True
    head_bias: bool = False
    embedding_scale: float | None = None
    softcap: float | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, 1, "vocab", "dim", "length")
        if not self.blocks:
            raise BadInput("a decoder needs at least one block", field="Decoder.blocks")
        if self.tied and self.head_bias:
            raise BadInput("a tied head has no bias", field="Decoder.head_bias")
        fractions(self, "dropout")
        for name in ("embedding_scale", "softcap"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise BadInput(f"must be positive, is {value}", field=f"Decoder.{name}")
        if self.positions is not None:
            self.positions.check(self.dim, self.length)
        for block in dict.fromkeys(self.blocks):
            block.check(self.length, causal=True, across=False)

    def build(self) -> DecoderModel:
        return DecoderModel(self)

    def streams(self) -> tuple[tuple[Stream, ...], ...]:
        """What each block keeps while decoding."""
        return tuple(block.streams(self.dim) for block in self.blocks)

    def cost(self, tokens: int, length: int) -> Cost:
        """The last `tokens` of `length`, logits for each of them. The table's rows are looked up, not multiplied."""
        head = Cost(flops=2 * tokens * self.dim * self.vocab)
        table = Cost(parameters=self.vocab * self.dim * (1 if self.tied else 2) + self.vocab * self.head_bias)
        outer = [part.cost(self.dim, tokens, length) for part in (self.norm, self.positions) if part is not None]
        # Equal blocks cost the same: each kind is counted once (a Gemma has 2 kinds among its 18 or more).
        blocks = [block.cost(self.dim, tokens, length) * count for block, count in Counter(self.blocks).items()]
        return sum([table, head, *outer, *blocks], Cost())


class DecoderModel(nn.Module):
    """ids (N,) -> logits (N, V). The report holds the blocks' reports under `blocks.3.`, and each block's output
    `blocks.3.residual_ND` where "residual" is wanted."""

    def __init__(self, spec: Decoder):
        super().__init__()
        self.spec = spec
        self.embedding = Embedding(spec.vocab, spec.dim)
        self.positions = spec.positions.build(spec.dim) if spec.positions else None
        self.blocks = nn.ModuleList(block.build(spec.dim) for block in spec.blocks)
        self.norm = spec.norm.build(spec.dim) if spec.norm else None
        self.head = None if spec.tied else Linear(spec.dim, spec.vocab, bias=spec.head_bias)

    def forward(self, ids_N: Tensor, context: Context, rows_X: Tensor | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Logits (N, V), or (X, V) of the flat rows asked for. Takes one step of the context's cache."""
        x_ND, report = self.hidden(ids_N, context)
        return self.logits(x_ND if rows_X is None else x_ND[rows_X], context), report

    def entered(self, ids_N: Tensor, context: Context) -> Tensor:
        """The residual (N, D) before the first block."""
        x_ND = self.embedding(ids_N)
        if self.spec.embedding_scale is not None:
            # In the table's own precision, as the Gemmas were trained.
            x_ND = x_ND * torch.tensor(self.spec.embedding_scale, dtype=x_ND.dtype, device=x_ND.device)
        if self.positions is not None:
            x_ND = x_ND + self.positions(context.positions_N).to(x_ND.dtype)
        if self.spec.dropout and self.training:
            x_ND = F.dropout(x_ND, self.spec.dropout)
        return x_ND

    def hidden(self, ids_N: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        """The residual (N, D) behind the last block."""
        x_ND, reports = through(self.blocks, self.entered(ids_N, context), context)
        if context.cache is not None:
            context.cache.advance(context.lengths)
        return x_ND, reports

    def logits(self, x_ND: Tensor, context: Context) -> Tensor:
        """Scores (N, V) of the next token, from the residual behind any block (the logit lens asks for early ones)."""
        x_ND = x_ND if self.norm is None else self.norm(x_ND, context)
        logits_NV = self.embedding.logits(x_ND, context) if self.head is None else self.head(x_ND, context)
        if self.spec.softcap is not None:
            logits_NV = self.spec.softcap * torch.tanh(logits_NV / self.spec.softcap)
        return logits_NV

    def scored(self, x_ND: Tensor, context: Context, score: Callable[..., Tensor]) -> Tensor:
        """What `score(x_ND, weight_VD, bias_V=..., softcap=...)` makes of the residual behind the last block and of the
        head's own matrix, without all logits being there at once. Any other head's logits come with no weight."""
        head = self.embedding if self.head is None else self.head
        if not isinstance(head, Embedding | Linear):
            return score(self.logits(x_ND, context), None)
        x_ND = x_ND if self.norm is None else self.norm(x_ND, context)
        bias_V = head.bias if isinstance(head, Linear) else None
        return score(x_ND, head.weight, bias_V=bias_V, softcap=self.spec.softcap)
