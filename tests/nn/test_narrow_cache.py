"""Bytes are what streams say; cached is uncached within what rounding may do, for each mixer."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.block import Block
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.narrow_cache import NarrowCache, contiguous, kept_named, narrow_streams
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.stream import Stream
from cutaway.ops.attend import attend_readable
from cutaway.ops.narrow_row import decode, encode
from cutaway.ops.visible import Visible

MIXERS = {
    "grouped": GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8)),
    "window": GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8), window=5),
    "sinks": GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8), window=5, sinks=2),
    "latent": Latent(heads=4, rank=16, head_dim=8, rope=Rope(width=4)),
    "sparse": NativeSparse(
        heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8), block=4, stride=2, select=4, top_k=3, window=6
    ),
}
EACH = pytest.mark.parametrize("mixer", MIXERS.values(), ids=MIXERS)


def decoder(mixer) -> Decoder:
    block = Block(mixer=mixer, feed=Gated(hidden=48), before=RMSNorm())
    return Decoder(vocab=61, dim=32, blocks=(block, block), length=64, norm=RMSNorm())


def test_streams_say_what_is_held():
    kept = narrow_streams(
        (
            (
                Stream("key", (3, 64)),
                Stream("state", (4,), per="sequence"),
                Stream("told", (4,), dtype=torch.float64),
                Stream("bare", ()),
            ),
        ),
        torch.int8,
    )
    key, state, told, bare = kept[0]
    assert key.shape == (3, 66) and key.dtype == torch.int8
    assert (state.dtype, told.dtype, bare.dtype) == (None, torch.float64, None)
    assert key.bytes(100) == 100 * 3 * 66, "66 bytes where float32 takes 256 and bfloat16 128"


@EACH
def test_bytes_are_those_of_the_streams(mixer):
    spec, tokens = decoder(mixer), 13
    module = spec.build().eval()
    ids = torch.randint(0, 61, (tokens,))
    held = {}
    for kept in (None, torch.bfloat16, torch.int8):
        cache = contiguous(spec.streams(), kept, dtype=torch.float32, slack=0)
        for one in ids:  # a token at a time: windows hold no more than they must
            with torch.no_grad():
                module(one[None], Context.of((1,), cache=cache))
        cache.check()
        streams = narrow_streams(spec.streams(), kept)
        most = sum(stream.bytes(tokens) for layer in streams for stream in layer)
        held[kept] = cache.bytes, most
    assert held[torch.bfloat16][0] * 2 == held[None][0] and held[torch.bfloat16][1] * 2 == held[None][1]
    ratio = held[torch.int8][1] / held[None][1]
    assert held[torch.int8][0] / held[None][0] == pytest.approx(ratio, rel=0.02)
    assert 0.25 < ratio <= 0.4, "a byte for four, and the scales of narrow heads"


@EACH
@pytest.mark.parametrize("pieces", [(1,) * 20, (20,), (7, 1, 1, 11)])
def test_however_a_text_is_cut_the_same_rows_are_read(mixer, pieces):
    """Fed in pieces or at once: rows are rounded each by itself. A row may be one rounding of fp32 off, which moves it
    by a step of 1/127 where it stood between two levels: bounded by what rounding moves at all."""
    torch.manual_seed(0)
    spec = decoder(mixer)
    module, ids = spec.build().eval(), torch.randint(0, 61, (20,))
    with torch.no_grad():
        exact = module(ids, Context.of((20,), cache=ContiguousCache(spec.streams())))[0]
        whole = module(ids, Context.of((20,), cache=contiguous(spec.streams(), torch.int8, dtype=torch.float32)))[0]
        cache = contiguous(spec.streams(), torch.int8, dtype=torch.float32)
        cut = torch.cat([module(part, Context.of((len(part),), cache=cache))[0] for part in ids.split(pieces)])
    moved = float((whole - exact).abs().max())
    assert 0.0 < moved < 0.05 * float(exact.std()) + 1e-3, "8 bits move logits, and little"
    assert float((cut - whole).abs().max()) <= max(moved, 1e-5)


def test_attention_moves_no_more_than_its_rows_do():
    """Scores move by e = scale |q|_1 s_k / 2 at most, so a weight by a factor within exp(2e), and values by s_v / 2."""
    torch.manual_seed(1)
    q, k, v = torch.randn(4, 2, 8), torch.randn(30, 2, 8), torch.randn(30, 2, 8)
    see, scale = Visible(queries=(4,), keys=(30,), causal=True), 8**-0.5
    exact = attend_readable(q.double(), k.double(), v.double(), see, scale=scale)
    kept = [decode(encode(rows)).double() for rows in (k, v)]
    found = attend_readable(q.double(), *kept, see, scale=scale)
    step_k, step_v = (float(rows.abs().amax() / 127 * (1 + 2.0**-10)) for rows in (k, v))
    e_TH = scale * q.double().abs().sum(-1) * step_k / 2
    bound = torch.expm1(2 * e_TH) * float(v.abs().amax()) + step_v / 2
    assert ((found - exact).abs().amax(-1) <= bound + 1e-6).all()
    assert float((found - exact).abs().max()) > 1e-4


@EACH
def test_marks_cuts_and_beams_go_through(mixer):
    torch.manual_seed(0)
    spec = decoder(mixer)
    module, ids = spec.build().eval(), torch.randint(0, 61, (12,))
    cache = contiguous(spec.streams(), torch.int8, dtype=torch.float32)
    assert isinstance(cache, NarrowCache)
    with torch.no_grad():
        module(ids[:8], Context.of((8,), cache=cache))
        mark = cache.snapshot(0)
        first = module(ids[8:], Context.of((4,), cache=cache))[0]
        cache.restore(0, mark)
        again = module(ids[8:], Context.of((4,), cache=cache))[0]
        cache.truncate(0, 8)
        third = module(ids[8:], Context.of((4,), cache=cache))[0]
        cache.select([0])
    assert torch.equal(first, again) and torch.equal(first, third) and cache.lengths == (12,)


def test_names():
    assert kept_named(None) is None and kept_named("int8") == torch.int8
    with pytest.raises(BadInput, match=r"cache.*int4.*int8"):
        kept_named("int4")
