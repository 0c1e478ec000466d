from __future__ import annotations

import pytest
import torch

from cutaway.base.seeds import seed_all
from cutaway.infer.language import Language
from cutaway.models.decoder import Decoder
from cutaway.models.encoder import Encoder
from cutaway.models.masked_head import MaskedHead
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Learned, Rope


@pytest.fixture
def spec() -> Decoder:
    """Two kinds of blocks (one with a window), norms on queries and keys, a tied table."""
    far = GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8), head_norm=RMSNorm())
    near = GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8), head_norm=RMSNorm(), window=4)
    blocks = [
        Block(mixer=mixer, feed=Gated(hidden=48), before=RMSNorm(), after=RMSNorm())
        for mixer in (near, near, far, near)
    ]
    return Decoder(vocab=96, dim=32, blocks=tuple(blocks), norm=RMSNorm(), length=64)


@pytest.fixture
def older() -> Decoder:
    """Learned positions, biases, one kv head for each head, a head of its own."""
    mixer = GroupedQuery(heads=4, kv_heads=4, head_dim=8, bias=True, out_bias=True)
    block = Block(mixer=mixer, feed=Plain(hidden=64), outside=LayerNorm())
    return Decoder(
        vocab=96, dim=32, blocks=(block,) * 2, positions=Learned(length=16), length=16, tied=False, head_bias=True
    )


@pytest.fixture
def encoder() -> Encoder:
    """BERT's build: learned positions, token types, norms outside, a tied masked-language head."""
    mixer = GroupedQuery(heads=4, kv_heads=4, head_dim=8, bias=True, out_bias=True)
    norm = LayerNorm(eps=1e-12)
    return Encoder(
        vocab=96,
        dim=32,
        blocks=(Block(mixer=mixer, feed=Plain(hidden=64), outside=norm),) * 2,
        length=16,
        positions=Learned(length=16),
        kinds=2,
        embedding_norm=norm,
        head=MaskedHead(norm=norm),
    )


@pytest.fixture
def language(spec) -> Language:
    seed_all(0)
    torch.set_num_threads(1)
    return Language(spec.build(), source="tiny")
