"""A small decoder and batches to train it on."""

from __future__ import annotations

import pytest
import torch

from cutaway.data.batch import Batch
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope


def _decoder(dropout: float = 0.0, blocks: int = 2, seed: int = 0):
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8), dropout=dropout)
    block = Block(mixer=mixer, feed=Gated(hidden=48, dropout=dropout), before=RMSNorm(), dropout=dropout)
    torch.manual_seed(seed)
    return Decoder(vocab=32, dim=32, blocks=(block,) * blocks, length=64, norm=RMSNorm(), dropout=dropout).build()


def _batches(count: int, lengths: tuple[int, ...] = (12, 5, 9), seed: int = 0) -> list[Batch]:
    """Sequences that count upwards in steps of 1 to 3 from anywhere: after two tokens all is known."""
    make, batches = torch.Generator().manual_seed(seed), []
    for _ in range(count):
        rows = []
        for length in lengths:
            start, pace = (int(torch.randint(*span, (1,), generator=make)) for span in ((0, 32), (1, 4)))
            rows.append((start + pace * torch.arange(length + 1)) % 32)
        ids_N, targets_N = torch.cat([row[:-1] for row in rows]), torch.cat([row[1:] for row in rows])
        batches.append(Batch(ids_N=ids_N, lengths=lengths, targets_N=targets_N))
    return batches


@pytest.fixture
def decoder():
    """`decoder(dropout=, blocks=, seed=)` builds one of 32 words, dim 32."""
    return _decoder


@pytest.fixture
def batches():
    """`batches(count, lengths=, seed=)`: rows that can be learned."""
    return _batches
