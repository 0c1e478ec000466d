from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.models.patterns import alternating, banded, recurring
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned

DENSE = Block(mixer=GroupedQuery(heads=2, kv_heads=2, head_dim=4), feed=Plain(hidden=16), before=LayerNorm())
BAND = banded(DENSE, 3)


def reach(blocks: tuple[Block, ...], token: int = 15) -> set[int]:
    """The positions that change what is said at `token`."""
    torch.manual_seed(0)
    module = Decoder(vocab=9, dim=8, blocks=blocks, length=16, positions=Learned(length=16)).build().double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ids_N = torch.randint(9, (16,))
    found = set()
    with torch.no_grad():
        said = module(ids_N, Context.of((16,)))[0][token]
        for place in range(16):
            other = ids_N.clone()
            other[place] = (other[place] + 1) % 9
            if (module(other, Context.of((16,)))[0][token] - said).abs().max() > 1e-12:
                found.add(place)
    return found


def test_a_band_sees_its_window_and_two_of_them_twice_as_far():
    assert reach((BAND,)) == {13, 14, 15}
    assert reach((BAND, BAND)) == set(range(11, 16))
    assert reach((DENSE,)) == set(range(16))


def test_alternating_layers_see_all_through_the_dense_ones():
    blocks = alternating(DENSE, BAND, 5)
    assert blocks == (DENSE, BAND, DENSE, BAND, DENSE)
    assert reach(blocks[:2]) == reach(blocks[1:3]) == set(range(16))
    kept = Decoder(vocab=9, dim=8, blocks=blocks, length=16).streams()
    assert [streams[0].last for streams in kept] == [None, 3, None, 3, None]
    # What banded layers keep and add up is bounded by the window.
    near, far = BAND.cost(8, 1, 1000), DENSE.cost(8, 1, 1000)
    assert near.parameters == far.parameters and near.cache_bytes == far.cache_bytes * 3 // 1000
    assert far.flops - near.flops == 4 * 8 * (1000 - 3)


def test_a_period_is_cut_where_the_layers_end():
    assert recurring((BAND, BAND, DENSE), 7) == (BAND, BAND, DENSE, BAND, BAND, DENSE, BAND)
    assert recurring((DENSE,), 2) == (DENSE, DENSE)


def test_what_cannot_be_is_refused():
    with pytest.raises(BadInput, match="layers: must be at least 1"):
        alternating(DENSE, BAND, 0)
    with pytest.raises(BadInput, match="period"):
        recurring((), 3)
    with pytest.raises(BadInput, match=r"GroupedQuery\.window"):
        banded(DENSE, 0)
    with pytest.raises(BadInput, match="has no window"):
        banded(Block(mixer=Plain(hidden=4), feed=Plain(hidden=4)), 3)
