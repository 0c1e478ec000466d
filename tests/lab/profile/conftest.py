from __future__ import annotations

from dataclasses import replace

import pytest

from cutaway.base.seeds import seed_all
from cutaway.infer.language import Language
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.gated_delta import GatedDelta
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.block import Block
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

ROPE = Rope(width=4)
FULL = GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=ROPE)
SIZES = {"heads": 4, "kv_heads": 2, "head_dim": 8, "rope": ROPE}
FEED = Gated(hidden=48)
KINDS = {
    "grouped": (FULL, FEED),
    "window": (GroupedQuery(**SIZES, window=5), FEED),
    "latent": (Latent(heads=4, rank=16, head_dim=8, rope=ROPE), FEED),
    "native sparse": (NativeSparse(**SIZES, block=4, stride=2, select=4, top_k=3, window=5), FEED),
    "gated delta": (GatedDelta(heads=4, key_heads=2, head_dim=8), FEED),
    "experts": (FULL, Experts(count=4, expert=Gated(hidden=24), router=SoftmaxTopK(top_k=2), shared=Gated(hidden=24))),
}


def decoder(kind: str, blocks: int = 2, **changes) -> Decoder:
    mixer, feed = KINDS[kind]
    block = Block(mixer=mixer, feed=feed, before=RMSNorm())
    plain = Decoder(vocab=96, dim=32, blocks=(block,) * blocks, norm=RMSNorm(), length=256)
    return replace(plain, **changes)


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def every(kind) -> Language:
    """A small model of each kind in turn."""
    seed_all(0)
    return Language(decoder(kind).build())


@pytest.fixture
def one() -> Language:
    seed_all(0)
    return Language(decoder("grouped").build())
