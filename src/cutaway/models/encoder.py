"""An encoder: every token sees every other of its sequence. BERT, and the sentence encoders made from it.

Devlin et al. 2018 (arXiv 1810.04805).   x = norm(E[ids] + positions + kinds);  x = block(x) for each block
On top a head, or none: masked tokens (scores of the vocabulary), classes of a sequence, classes of tokens.
Departure: sequences lie end to end, without padding; there is no attention mask to pass in. Next-sentence prediction
is left out (Liu et al. 2019, arXiv 1907.11692, section 4.2: it does no good).
N tokens of all sequences, flat · X of them that are asked for · B sequences · D model dim · V vocabulary · C classes
Read next: models/masked_head.py, models/decoder.py, infer/embedding.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.bounds import fractions
from cutaway.base.errors import BadInput
from cutaway.models.classifier import ClassifierModule, SequenceClassifier, TokenClassifier
from cutaway.models.masked_head import MaskedHead, MaskedHeadModule
from cutaway.models.pooler import Pooler
from cutaway.nn.block import Block, Norm, through
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost
from cutaway.nn.embedding import Embedding
from cutaway.nn.positions import Learned, Sinusoidal
from cutaway.nn.stream import Stream

Head = MaskedHead | SequenceClassifier | TokenClassifier


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """`length`: the longest sequence it was made for. `kinds`: token types (BERT: 2, first and second sentence), 0 for
    none. `embedding_norm` is that of the embeddings' sum, `norm` that behind the last block (pre-norm encoders).
    """

    vocab: int
    dim: int
    blocks: tuple[Block, ...]
    length: int
    positions: Learned | Sinusoidal | None = None
    kinds: int = 0
    embedding_norm: Norm | None = None
    norm: Norm | None = None
    pooler: Pooler | None = None
    head: Head | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("vocab", 1), ("dim", 1), ("length", 1), ("kinds", 0)):
            if getattr(self, name) < least:
                raise BadInput(f"must be at least {least}, is {getattr(self, name)}", field=f"Encoder.{name}")
        if not self.blocks:
            raise BadInput("an encoder needs at least one block", field="Encoder.blocks")
        fractions(self, "dropout")
        if self.positions is not None:
            self.positions.check(self.dim, self.length)
        for block in dict.fromkeys(self.blocks):
            block.check(self.length, causal=False, across=False)
        if isinstance(self.head, SequenceClassifier) and self.pooler is None:
            raise BadInput("a classifier of sequences reads a pooler's vector, and there is none", field="Encoder.head")
        if isinstance(self.head, MaskedHead | TokenClassifier) and self.pooler is not None:
            raise BadInput("nothing would read its vector: the head reads tokens", field="Encoder.pooler")

    @property
    def tied(self) -> bool:
        """Whether the token table also scores."""
        return isinstance(self.head, MaskedHead)

    def build(self) -> EncoderModel:
        return EncoderModel(self)

    def streams(self) -> tuple[tuple[Stream, ...], ...]:
        """What each block keeps while decoding: an encoder does not decode, so nothing."""
        return ((),) * len(self.blocks)

    def cost(self, tokens: int, length: int) -> Cost:
        """`tokens` of sequences of `length`, each seeing all of its own; nothing is kept between passes.

        A pooler runs once for a sequence. Where blocks have a window, the keys on one side alone are counted.
        """
        sequences = max(1, tokens // length)
        table = Cost(
            parameters=(self.vocab + self.kinds) * self.dim + self.vocab * self.tied,
            flops=2 * tokens * self.dim * self.vocab * self.tied,
        )
        outer = [
            part.cost(self.dim, tokens, length) for part in (self.embedding_norm, self.norm, self.positions) if part
        ]
        outer += [self.pooler.cost(self.dim, sequences, length)] if self.pooler else []
        if self.head is not None:
            rows = sequences if isinstance(self.head, SequenceClassifier) else tokens
            outer.append(self.head.cost(self.dim, rows, length))
        # The last token of a sequence sees all of it, causal or not: here each token costs what the last one does.
        last = [block.cost(self.dim, 1, length) * count for block, count in Counter(self.blocks).items()]
        blocks = [replace(cost, flops=cost.flops * tokens, cache_bytes=0) for cost in last]
        return sum([table, *outer, *blocks], Cost())


class EncoderModel(nn.Module):
    """ids (N,) -> what its head says: without one hidden states (N, D); scores (N, V); classes (B, C) or (N, C).

    The report holds the blocks' reports under `blocks.3.`, and each block's output `blocks.3.residual_ND` where
    "residual" is wanted.
    """

    def __init__(self, spec: Encoder):
        super().__init__()
        self.spec = spec
        self.embedding = Embedding(spec.vocab, spec.dim)
        self.positions = spec.positions.build(spec.dim) if spec.positions else None
        self.kinds = Embedding(spec.kinds, spec.dim) if spec.kinds else None
        self.embedding_norm = spec.embedding_norm.build(spec.dim) if spec.embedding_norm else None
        self.blocks = nn.ModuleList(block.build(spec.dim) for block in spec.blocks)
        self.norm = spec.norm.build(spec.dim) if spec.norm else None
        self.pooler = spec.pooler.build(spec.dim) if spec.pooler else None
        self.head = _head(spec)

    def forward(
        self, ids_N: Tensor, context: Context, rows_X: Tensor | None = None, *, kinds_N: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """What the head says of all tokens, or of the flat rows asked for (not of sequences, which are whole).

        `kinds_N`: token types, zeros if None. The context must say that tokens see both ways.
        """
        if rows_X is not None and isinstance(self.spec.head, SequenceClassifier):
            raise BadInput("this head answers for sequences, not for rows", field="rows_X")
        x_ND, report = self.hidden(ids_N, context, kinds_N)
        return self.logits(x_ND if rows_X is None else x_ND[rows_X], context), report

    def hidden(self, ids_N: Tensor, context: Context, kinds_N: Tensor | None = None) -> tuple[Tensor, dict[str, Any]]:
        """The hidden states (N, D) behind the last block and its norm."""
        self._check(context, kinds_N)
        x_ND = self.embedding(ids_N)
        if self.kinds is not None:
            x_ND = x_ND + (self.kinds.weight[0] if kinds_N is None else self.kinds(kinds_N))
        if self.positions is not None:
            x_ND = x_ND + self.positions(context.positions_N).to(x_ND.dtype)
        if self.embedding_norm is not None:
            x_ND = self.embedding_norm(x_ND, context)
        if self.spec.dropout and self.training:
            x_ND = F.dropout(x_ND, self.spec.dropout)
        x_ND, reports = through(self.blocks, x_ND, context)
        return (x_ND if self.norm is None else self.norm(x_ND, context)), reports

    def pooled(self, x_ND: Tensor, context: Context) -> Tensor:
        """One vector (B, D) for each sequence, from its first token's hidden state."""
        if self.pooler is None:
            raise BadInput("this encoder has none", field="Encoder.pooler")
        if 0 in context.lengths:
            raise BadInput("a sequence without tokens has no first one", field="lengths")
        starts = [0, *accumulate(context.lengths)][:-1]
        return self.pooler(x_ND[torch.tensor(starts, device=x_ND.device)], context)

    def logits(self, x_ND: Tensor, context: Context) -> Tensor:
        """What the head says of hidden states; they themselves where there is none."""
        if isinstance(self.head, MaskedHeadModule):
            return self.embedding.logits(self.head(x_ND, context), context) + self.head.bias
        if self.head is None:
            return x_ND
        return self.head(self.pooled(x_ND, context) if self.pooler is not None else x_ND, context)

    def scored(self, x_ND: Tensor, context: Context, score: Callable[..., Tensor]) -> Tensor:
        """What `score(x_ND, weight_VD, bias_V=...)` makes of hidden states and of the matrix that scores masked tokens,
        without all scores being there at once. What any other head says comes with no weight."""
        if not isinstance(self.head, MaskedHeadModule) or not isinstance(self.embedding, Embedding):
            return score(self.logits(x_ND, context), None)
        return score(self.head(x_ND, context), self.embedding.weight, bias_V=self.head.bias)

    def _check(self, context: Context, kinds_N: Tensor | None) -> None:
        if context.causal or context.cache is not None:
            raise BadInput("an encoder sees both ways, and keeps nothing: causal=False and no cache", field="Context")
        longest = max(context.lengths, default=0)
        if longest > self.spec.length:
            raise BadInput(
                f"a sequence has {longest} tokens, the encoder's most is {self.spec.length}", field="lengths"
            )
        if kinds_N is not None and self.kinds is None:
            raise BadInput("this encoder has no token types", field="kinds_N")


def _head(spec: Encoder) -> MaskedHeadModule | ClassifierModule | None:
    if isinstance(spec.head, MaskedHead):
        return spec.head.build(spec.dim, spec.vocab)
    return spec.head.build(spec.dim) if spec.head is not None else None
