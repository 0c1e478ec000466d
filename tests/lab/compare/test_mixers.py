from __future__ import annotations

import pytest

from cutaway.lab.compare.mixers import KINDS, Shape, about, mixer, rate
from cutaway.nn.attention.block_sparse import BlockSparse
from cutaway.nn.attention.gated_delta import GatedDelta
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.attention.native_sparse import NativeSparse

SHAPE = Shape(dim=128, heads=8, longest=1000)


def test_numbers_are_what_they_say():
    assert [mixer(name, SHAPE).kv_heads for name in ("mha", "gqa:4", "gqa", "mqa")] == [8, 4, 2, 1]
    latent, sparse, blocks = (mixer(name, SHAPE) for name in ("mla:48", "nsa:4", "block-sparse:100"))
    assert isinstance(latent, Latent) and latent.rank == 48
    assert isinstance(sparse, NativeSparse) and sparse.kv_heads == 4
    assert isinstance(blocks, BlockSparse) and blocks.reads(1128) == 4 * 100 - 72 + 100
    delta = [mixer(name, SHAPE) for name in ("delta", "delta:2")]
    assert [one.key_heads for one in delta if isinstance(one, GatedDelta)] == [8, 2]
    sinks, alibi = mixer("sinks:300", SHAPE), mixer("alibi", SHAPE)
    assert isinstance(sinks, GroupedQuery) and (sinks.window, sinks.sinks) == (300, 4)
    assert isinstance(alibi, GroupedQuery) and alibi.rope is None and alibi.alibi is not None


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_built_without_a_number_and_is_told(name):
    assert mixer(name, SHAPE).build(SHAPE.dim) is not None
    assert mixer(name, SHAPE).cost(SHAPE.dim, 1, 1000).parameters > 0
    assert about(name) and rate(name) > 0
