"""Encoders for tests: small ones of every build, and the size of BERT-base."""

from __future__ import annotations

import torch

from cutaway.models.classifier import SequenceClassifier, TokenClassifier
from cutaway.models.encoder import Encoder, EncoderModel
from cutaway.models.masked_head import MaskedHead
from cutaway.models.pooler import Pooler
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Learned, Rope

NORM = LayerNorm(eps=1e-12)


def bert(vocab: int, dim: int, layers: int, heads: int, hidden: int, length: int, **changed: object) -> Encoder:
    mixer = GroupedQuery(heads=heads, kv_heads=heads, head_dim=dim // heads, bias=True, out_bias=True)
    block = Block(mixer=mixer, feed=Plain(hidden=hidden, activation="gelu"), outside=NORM)
    told = {"positions": Learned(length=length), "kinds": 2, "embedding_norm": NORM} | changed
    return Encoder(vocab=vocab, dim=dim, blocks=(block,) * layers, length=length, **told)  # type: ignore[arg-type]


def tiny(**changed: object) -> Encoder:
    return bert(50, 16, 2, 2, 32, 32, **changed)


MODERN = Block(
    mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=8, rope=Rope(width=8)), feed=Gated(hidden=24), before=RMSNorm()
)
VALUES = {
    "trunk": tiny(),
    "pooled": tiny(pooler=Pooler()),
    "masked": tiny(head=MaskedHead(norm=NORM)),
    "sequences": tiny(pooler=Pooler(), head=SequenceClassifier(classes=3)),
    "tokens": tiny(head=TokenClassifier(classes=4)),
    "pre-norm": Encoder(vocab=50, dim=16, blocks=(MODERN,) * 2, length=32, norm=RMSNorm()),
}


def random(spec: Encoder) -> EncoderModel:
    """In float64, with numbers large enough that every part shows."""
    torch.manual_seed(0)
    module = spec.build().double().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module
