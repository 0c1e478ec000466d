"""An encoder-decoder: one stack reads a source, both ways; another writes a target and looks across at what was read.

Vaswani et al. 2017 (arXiv 1706.03762): sinusoidal positions, post-norm, embeddings times sqrt(D), one table for source,
target and head. Raffel et al. 2020 (T5, arXiv 1910.10683): pre-norm with RMS norms, relative position bias, scores that
are not scaled; version 1.0 scales the head by 1/sqrt(D), 1.1 has a head of its own and gated feeds.
  m = encoder(E_source[source]);   x = decoder(E[target], m);   logits = norm(x) * scale E^T
How it is called, for training and for writing alike:
  module(ids_N, context, source=source)           logits (N, V) of the targets; `source` has `ids_N` and `lengths`
  module.hidden(ids_N, context, source=source)    the decoder's residual (N, D), for `module.logits(x_ND, context)`
`context` speaks of the targets, `source` holds one sequence for each of them: a `Batch` and its `source` fit as they
are. A target begins with `spec.start`. With a cache the first pass brings the source, later ones none.
Departure: nothing is padded; there is no dropout behind the last norms.
N tokens of all targets, flat · S tokens of all sources, flat · X rows asked for · D model dim · V vocabulary
Read next: models/stack.py, nn/attention/cross.py, infer/seq2seq.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least, fractions
from cutaway.base.errors import BadInput
from cutaway.models.stack import Stack
from cutaway.nn.context import Context, Memory
from cutaway.nn.cost import Cost
from cutaway.nn.embedding import Embedding
from cutaway.nn.linear import Linear
from cutaway.nn.stream import Stream


class Sequences(Protocol):
    """Sequences laid end to end: a `Batch` is one."""

    @property
    def ids_N(self) -> Tensor: ...
    @property
    def lengths(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, kw_only=True)
class EncoderDecoder:
    """`start`: the id that every target begins with; `ends`: those that end one; `never`: those that none may hold,
    whatever their logits (an engine that writes sees to it, the model does not). `source_vocab`: that of the encoder's
    own table; None: both sides share one. `tied`: the head is the decoder's table. `head_bias`: added to the logits,
    tied or not. `head_scale`: what goes into the head is multiplied by it. `embedding_scale`: what rows of the tables
    are multiplied by (2017: sqrt(dim)).
    """

    vocab: int
    dim: int
    encoder: Stack
    decoder: Stack
    start: int = 0
    ends: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    source_vocab: int | None = None
    tied: bool = True
    head_bias: bool = False
    head_scale: float | None = None
    embedding_scale: float | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, 1, "vocab", "dim", "source_vocab")
        for name, ids in (("start", (self.start,)), ("ends", self.ends), ("never", self.never)):
            if not all(0 <= id < self.vocab for id in ids):
                raise BadInput(f"{max(ids)} is no id of {self.vocab}", field=f"EncoderDecoder.{name}")
        fractions(self, "dropout")
        if any(block.cross is not None for block in self.encoder.blocks):
            raise BadInput(
                "a block of the encoder looks across: there is nothing there", field="EncoderDecoder.encoder"
            )
        if not any(block.cross is not None for block in self.decoder.blocks):
            raise BadInput("no block looks across at the encoder", field="EncoderDecoder.decoder")
        for name in ("head_scale", "embedding_scale"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise BadInput(f"must be positive, is {value}", field=f"EncoderDecoder.{name}")
        for name, causal in (("encoder", False), ("decoder", True)):
            stack = getattr(self, name)
            if stack.relative is not None and stack.relative.causal != causal:
                raise BadInput(f"must have causal={causal}", field=f"EncoderDecoder.{name}.relative")
            if stack.positions is not None:
                stack.positions.check(self.dim, stack.positions.length)
            for block in dict.fromkeys(stack.blocks):
                block.check(stack.length, causal=causal, across=causal)

    def build(self) -> EncoderDecoderModel:
        return EncoderDecoderModel(self)

    def streams(self) -> tuple[tuple[Stream, ...], ...]:
        """What each block of the decoder keeps while it writes."""
        return tuple(block.streams(self.dim) for block in self.decoder.blocks)

    def cost(self, tokens: int, length: int, source: int | None = None) -> Cost:
        """The last `tokens` of a target of `length`, for a source of `source` tokens (as many as `length` if None).

        The pass that begins the target, where `tokens` is `length`, reads the source too. Tables are looked up.
        """
        source = length if source is None else source
        rows = self.vocab * (1 if self.tied else 2) + (self.source_vocab or 0)
        table = Cost(parameters=rows * self.dim + self.vocab * self.head_bias)
        head = Cost(flops=2 * tokens * self.dim * self.vocab)
        # The last token of a sequence sees all of it, causal or not: each token of the source costs what it does.
        last = self.encoder.cost(self.dim, 1, source)
        read = replace(last, flops=last.flops * source if tokens == length else 0, cache_bytes=0)
        return table + head + read + self.decoder.cost(self.dim, tokens, length, source)


class EncoderDecoderModel(nn.Module):
    """ids (N,) of targets -> logits (N, V). The report holds the blocks' reports under `encoder.blocks.3.` and
    `decoder.blocks.3.`, and each block's output `decoder.blocks.3.residual_ND` where "residual" is wanted."""

    def __init__(self, spec: EncoderDecoder):
        super().__init__()
        self.spec = spec
        self.embedding = Embedding(spec.vocab, spec.dim)
        self.source_embedding = Embedding(spec.source_vocab, spec.dim) if spec.source_vocab else None
        self.encoder = spec.encoder.build(spec.dim, spec.dropout)
        self.decoder = spec.decoder.build(spec.dim, spec.dropout)
        self.head = None if spec.tied else Linear(spec.dim, spec.vocab, bias=spec.head_bias)
        self.bias = nn.Parameter(torch.zeros(spec.vocab)) if spec.tied and spec.head_bias else None

    def forward(
        self, ids_N: Tensor, context: Context, rows_X: Tensor | None = None, *, source: Sequences | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Logits (N, V) of what follows each token of the targets, or (X, V) of the flat rows asked for.

        `source`: what the encoder is to read, one sequence for each target; None where the context has the memory, or
        its cache. Takes one step of the context's cache.
        """
        x_ND, report = self.hidden(ids_N, context, source=source)
        return self.logits(x_ND if rows_X is None else x_ND[rows_X], context), report

    def hidden(
        self, ids_N: Tensor, context: Context, *, source: Sequences | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """The decoder's residual (N, D) behind its last block. Arguments as `forward`."""
        reports: dict[str, Any] = {}
        if source is not None:
            memory, report = self.encode(source, context)
            context = replace(context, memory=memory)
            reports = {f"encoder.{name}": value for name, value in report.items()}
        x_ND, report = self.decoder(self._embed(self.embedding, ids_N), context)
        reports |= {f"decoder.{name}": value for name, value in report.items()}
        if context.cache is not None:
            context.cache.advance(context.lengths)
        return x_ND, reports

    def encode(self, source: Sequences, context: Context) -> tuple[Memory, dict[str, Any]]:
        """What the encoder makes of the sources. Of `context`, which is the targets', forms and wishes are taken."""
        if len(source.lengths) != len(context.lengths):
            said = f"{len(source.lengths)} sources for {len(context.lengths)} targets"
            raise BadInput(said, field="source")
        if 0 in source.lengths:
            raise BadInput("a source without tokens cannot be looked at", field="source")
        reading = Context.of(
            source.lengths,
            device=source.ids_N.device,
            forms=context.forms,
            causal=False,
            want=context.want,
            narrow=context.narrow,
        )
        table = self.embedding if self.source_embedding is None else self.source_embedding
        x_SD, report = self.encoder(self._embed(table, source.ids_N), reading)
        return Memory(x_SD=self.encoder.normed(x_SD, reading), lengths=source.lengths), report

    def logits(self, x_ND: Tensor, context: Context) -> Tensor:
        """Scores (N, V) of the next token, from the residual behind any block of the decoder."""
        x_ND = self._before_head(x_ND, context)
        if self.head is not None:
            return self.head(x_ND, context)
        logits_NV = self.embedding.logits(x_ND, context)
        return logits_NV if self.bias is None else logits_NV + self.bias

    def scored(self, x_ND: Tensor, context: Context, score: Callable[..., Tensor]) -> Tensor:
        """What `score(x_ND, weight_VD, bias_V=...)` makes of the residual behind the last block and of the head's own
        matrix, without all logits being there at once. Any other head's logits come with no weight."""
        head = self.embedding if self.head is None else self.head
        if not isinstance(head, Embedding | Linear):
            return score(self.logits(x_ND, context), None)
        bias_V = head.bias if isinstance(head, Linear) else self.bias
        return score(self._before_head(x_ND, context), head.weight, bias_V=bias_V)

    def _before_head(self, x_ND: Tensor, context: Context) -> Tensor:
        x_ND = self.decoder.normed(x_ND, context)
        return x_ND if self.spec.head_scale is None else x_ND * self.spec.head_scale

    def _embed(self, table: nn.Module, ids_N: Tensor) -> Tensor:
        x_ND = table(ids_N)
        if self.spec.embedding_scale is None:
            return x_ND
        return x_ND * torch.tensor(self.spec.embedding_scale, dtype=x_ND.dtype, device=x_ND.device)
