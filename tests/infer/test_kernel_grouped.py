"""Attention with sinks as kernels against torch: lengths within, at and far beyond the cache, in every precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.infer.quantising import LLAMA, UNIT, put
from torch import nn

from cutaway.base.errors import CutawayError
from cutaway.infer.continuation import Continuation
from cutaway.infer.kernel_grouped import lists
from cutaway.infer.kernel_reach import listed
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.linear import Linear
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import DynamicNtk, Yarn
from cutaway.ops.cpu.build import kernels
from cutaway.ops.forms import NAMED, READABLE

# Logits of size 1 to 15 behind two blocks: fp32 sums in another order, a few parts in a million each.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}

HALVES = GroupedQuery(heads=4, kv_heads=2, head_dim=32, rope=Rope(width=32), window=12, sinks=4)
PLACES = replace(HALVES, rope=None)
VARIANTS = {
    "halves": HALVES,
    "neighbours": replace(HALVES, rope=Rope(width=32, interleaved=True)),
    "a part of each head, scaled": replace(HALVES, rope=Rope(width=12, scaling=Yarn(factor=4.0, original_length=32))),
    "norms and a soft cap": replace(HALVES, head_norm=UNIT, softcap=3.0, heads=6, kv_heads=1),
    "gated": replace(HALVES, gated=True, bias=True),
    "a window of one": replace(HALVES, window=1, sinks=1),
    "more sinks than window": replace(HALVES, window=3, sinks=13),
    "more than a span": replace(HALVES, window=200, sinks=100),
    "alibi": replace(PLACES, alibi=Alibi(steepest=2.0)),
    "no positions": PLACES,
}

here = pytest.mark.skipif(kernels().library is None, reason=f"no kernels: {kernels().why}")


def decoder(mixer: GroupedQuery, form: str | None = None) -> DecoderModel:
    """Two blocks, of which the second has other sinks under the same window."""
    torch.manual_seed(5)
    blocks = (replace(LLAMA, mixer=mixer), replace(LLAMA, mixer=replace(mixer, sinks=mixer.sinks + 1)))
    module = Decoder(vocab=96, dim=64, length=4096, blocks=blocks, norm=UNIT).build().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else 0.15)
    names = [name for name, part in module.named_modules() if type(part) is Linear]
    for name in names if form else ():
        put(module, name, form)
    return module.requires_grad_(False)


def reading(module, name, kept=torch.float32):
    forms = READABLE if name is None else NAMED[name]
    held = Continuation(module, forms, dtype=torch.float32, device=torch.device("cpu"), kept=kept)
    assert (held.steps is None) == (name is None)
    return held


def ids(start, count):
    return [(7 * i) % 96 for i in range(start, start + count)]


def off(found, right):
    return float((found - right).abs().amax() / right.std())


@here
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_what_torch_computes(name):
    """One by one up to beyond the cache, then more at once than it holds, then one by one again; all of it a list."""
    spec = VARIANTS[name]
    module, most = decoder(spec), spec.window + spec.sinks
    assert listed(module) == 4
    ours, theirs = reading(module, "kernels"), reading(module, None)
    begin = max(0, most - 20)
    steps = [ids(0, begin)] if begin else []
    steps += [ids(begin + i, 1) for i in range(30)]
    steps += [ids(0, 150), ids(3, 1), ids(8, 2), ids(1, 77), ids(5, 1), ids(6, 1)]
    for fed in steps:
        torch.testing.assert_close(ours.feed(fed), theirs.feed(fed), **CLOSE)
        ours.cache.check()
    torch.testing.assert_close(ours.attempt([9], [1, 2, 8]), theirs.attempt([9], [1, 2, 8]), **CLOSE)
    assert all("torch" not in plan.names for plan in ours.steps.shelf.idle)


@here
@pytest.mark.parametrize("length", [3, 15, 16, 17, 18, 40, 63, 64, 65, 300, 1500])
def test_a_prompt_of_every_length_at_once(length):
    """4 sinks and 12 of a window: within, just full, beyond; and the tokens behind it. Memory does not grow with it."""
    module = decoder(HALVES, "q8_0")
    ours, theirs = reading(module, "kernels"), reading(module, None)
    for fed in (ids(0, length), [4], [5], [90]):
        torch.testing.assert_close(ours.feed(fed), theirs.feed(fed), **CLOSE)
    (rows,) = ours.cache.view.rows(0, "key")
    assert rows.end == length + 3 and len(rows.buffer) < 150


@here
@pytest.mark.parametrize("kept", [torch.float16, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("name", ["halves", "neighbours"])
def test_kept_in_fewer_bits(name, kept):
    """Both keep the same numbers, but where fp32's last bit decides a near tie: 1/127 of a head's largest, or 1/256 of
    a number of its own."""
    module = decoder(VARIANTS[name])
    ours, theirs = reading(module, "kernels", kept), reading(module, None, kept)
    for fed in (ids(0, 10), *([id] for id in ids(2, 12)), ids(0, 130), [3], [4]):
        assert off(ours.feed(fed), theirs.feed(fed)) < 0.03
    (key, counts), (other, same) = ours.cache.read(1, "key"), theirs.cache.read(1, "key")
    assert counts == same and (key - other).abs().amax() < other.abs().amax() / 50


@here
def test_int8_activations():
    """A product's numbers are off by 1/254 of their group's largest at most, mostly by a quarter of that."""
    module = decoder(HALVES, "q8_0")
    ours, theirs = reading(module, "kernels-int8"), reading(module, None)
    for fed in (ids(0, 40), [3], [4]):
        assert 0 < off(ours.feed(fed), theirs.feed(fed)) < 0.15


@here
@pytest.mark.parametrize("length", [5, 14, 40])
def test_what_is_taken_back_was_never_there(length):
    """By so many as the slack of a window allows; further back it is refused, and all is read again."""
    module = decoder(HALVES)
    ours, theirs = reading(module, "kernels"), reading(module, None)
    text = ids(0, length)
    for held in (ours, theirs):
        held.feed(text)
    for guesses, wrong in (([3, 4], 2), ([5, 6, 7], 1), ([8], 0), (ids(4, 9), 9)):
        torch.testing.assert_close(ours.attempt([1], guesses), theirs.attempt([1], guesses), **CLOSE)
        for held in (ours, theirs):
            assert held.back(wrong) == []
            held.cache.check()
    fresh = reading(module, "kernels")
    torch.testing.assert_close(ours.feed([2]), fresh.feed([*theirs.ids, 2]), **CLOSE)
    ours.feed(ids(0, 300))
    with pytest.raises(CutawayError, match="cannot go back"):
        ours.cache.truncate(0, 10)
    again = [*text[:3], 9, 9]
    torch.testing.assert_close(ours.feed(ours.rewind(again, 8)), reading(module, None).feed(again), **CLOSE)


@here
def test_each_goes_on_where_the_other_stopped():
    """Kernels and torch over one cache: keys are kept alike."""
    module = decoder(HALVES)
    ours, theirs, both = reading(module, "kernels"), reading(module, None), reading(module, "kernels")
    for turn, fed in enumerate((ids(0, 9), [4], ids(0, 70), [5], [6], [7], [8])):
        steps, both.steps = both.steps, None if turn % 2 else both.steps
        found = both.feed(fed)
        both.steps = steps
        for right in (ours.feed(fed), theirs.feed(fed)):
            torch.testing.assert_close(found, right, **CLOSE)


def test_what_is_left_to_torch():
    assert lists(HALVES.build(64)) and lists(replace(PLACES, alibi=Alibi()).build(64))
    plain = replace(HALVES, sinks=0)
    for told in ({"head_dim": 40}, {"rope": Rope(width=32, scaling=DynamicNtk(factor=2.0, original_length=8))}):
        assert not lists(replace(plain, **told).build(64)), told
    assert not lists(nn.Identity())
