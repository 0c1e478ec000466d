"""The token table: one row per token of the vocabulary; tied, the same rows score the next token.

Press and Wolf 2017 (arXiv 1608.05859): logits = x E^T.
N tokens, flat · V vocabulary · D model dim.   Read next: models/decoder.py, nn/quantised.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.nn.context import Context


class Embedding(nn.Module):
    """ids (N,) -> rows (N, D); `logits` multiplies by the same rows. Starts normal with deviation 0.02."""

    def __init__(self, vocab: int, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, dim).normal_(std=0.02))

    def forward(self, ids_N: Tensor) -> Tensor:
        return F.embedding(ids_N, self.weight)

    def logits(self, x_ND: Tensor, context: Context) -> Tensor:
        """Scores (N, V) of every token of the vocabulary."""
        return F.linear(x_ND, self.weight)

    def extra_repr(self) -> str:
        return " x ".join(map(str, self.weight.shape))
