"""Latent attention within lists, absorbed: every variant against torch, in every precision of weights and cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.infer.quantising import LLAMA, UNIT, put
from torch import nn

from cutaway.infer.continuation import Continuation
from cutaway.infer.kernel_latent import lists
from cutaway.infer.kernel_reach import listed
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.latent import Latent
from cutaway.nn.context import Context
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated
from cutaway.nn.linear import Linear
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import Yarn
from cutaway.ops.cpu import pack
from cutaway.ops.cpu.build import kernels
from cutaway.ops.cpu.memory import Arena
from cutaway.ops.forms import NAMED, READABLE

# Logits of size 1 to 15 behind two blocks: fp32 sums in another order, and absorbed ones in another way.
CLOSE = {"rtol": 2e-4, "atol": 2e-4}

PLAIN = Latent(heads=4, rank=32, head_dim=32, rope=Rope(width=16))
DEEPSEEK = Latent(
    heads=4,
    rank=96,
    head_dim=64,
    value_dim=48,
    query_rank=64,
    bias=True,
    out_bias=True,
    rope=Rope(width=32, interleaved=True, scaling=Yarn(factor=4.0, original_length=32)),
)
VARIANTS = {"plain": PLAIN, "deepseek": DEEPSEEK, "scaled": replace(PLAIN, scale=0.3, absorb=True)}

here = pytest.mark.skipif(kernels().library is None, reason=f"no kernels: {kernels().why}")


def decoder(mixer: Latent, form: str | None = None, **told) -> DecoderModel:
    """Two blocks; the second is DeepSeek-V2's, a mixture of experts with a shared one."""
    torch.manual_seed(5)
    mixture = Experts(expert=Gated(hidden=32), count=4, router=SoftmaxTopK(top_k=2), shared=Gated(hidden=64))
    first = replace(LLAMA, mixer=mixer, **told)
    module = (
        Decoder(vocab=96, dim=64, length=128, blocks=(first, replace(first, feed=mixture)), norm=UNIT).build().eval()
    )
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else 0.15)
    names = [name for name, part in module.named_modules() if type(part) is Linear and ".mixer." in name]
    for name in names if form else ():
        put(module, name, form)
    return module.requires_grad_(False)


def reading(module, name, kept=torch.float32):
    dtype = next(module.parameters()).dtype
    forms = READABLE if name is None else NAMED[name]
    return Continuation(module, forms, dtype=dtype, device=torch.device("cpu"), kept=kept)


def texts():
    return [5, 17, 3, 80, 44, 1, 9], [4], [(7 * i) % 96 for i in range(50)], [7], [8]


@here
@pytest.mark.parametrize("form", [None, "q8_0", "q4_1"], ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_what_torch_computes(name, form):
    module = decoder(VARIANTS[name], form)
    assert listed(module) == 4
    ours, theirs = reading(module, "kernels"), reading(module, None)
    assert ours.steps is not None
    for ids in texts():
        torch.testing.assert_close(ours.feed(ids), theirs.feed(ids), **CLOSE)
    torch.testing.assert_close(ours.attempt([9], [1, 2]), theirs.attempt([9], [1, 2]), **CLOSE)
    assert all("torch" not in plan.names for plan in ours.steps.shelf.idle)


@here
def test_sixteen_bits():
    """Multiplied by fp32 activations: what the same module computes in fp32."""
    ours, theirs = reading(decoder(DEEPSEEK).bfloat16(), "kernels"), reading(decoder(DEEPSEEK).bfloat16().float(), None)
    for ids in texts():
        torch.testing.assert_close(ours.feed(ids), theirs.feed(ids), **CLOSE)


@here
@pytest.mark.parametrize("kept", [torch.float16, torch.bfloat16, torch.int8], ids=str)
def test_latents_kept_in_fewer_bits(kept):
    """Both read the same numbers; where fp32's last bit decides a near tie, one of many is off by a step: 1/127 of a
    row's largest, or 1/256 of itself."""
    module = decoder(DEEPSEEK)
    ours, theirs = reading(module, "kernels", kept), reading(module, None, kept)
    for ids in texts():
        found, right = ours.feed(ids), theirs.feed(ids)
        assert ((found - right).abs().amax() / right.std()) < 0.03
    (latent, _), (other, _) = ours.cache.read(1, "latent"), theirs.cache.read(1, "latent")
    assert latent.shape == other.shape and (latent - other).abs().amax() < other.abs().amax() / 50


@here
@pytest.mark.parametrize(
    "told", [{"before": None, "outside": RMSNorm()}, {"after": RMSNorm()}], ids=["post", "sandwich"]
)
def test_norms_wherever_they_stand(told):
    ours, theirs = (reading(decoder(PLAIN, **told), name) for name in ("kernels", None))
    for ids in texts():
        torch.testing.assert_close(ours.feed(ids), theirs.feed(ids), **CLOSE)


@here
def test_int8_activations():
    ours, theirs = (reading(decoder(DEEPSEEK, "q8_0"), name) for name in ("kernels-int8", None))
    found, right = ours.feed([5, 17, 3]), theirs.feed([5, 17, 3])
    # A product's numbers are off by 1/254 of their group's largest at most, mostly by a quarter of that.
    assert 0 < ((found - right).abs().amax() / right.std()) < 0.15


@here
def test_matrices_stay_while_torch_joins_the_maps_that_they_are_of(monkeypatch):
    """A list points to where matrices lie; torch's own passes put those of maps that read the same input elsewhere."""
    arena = Arena(piece=1 << 20)
    monkeypatch.setattr(pack, "ARENA", arena)
    module = decoder(PLAIN, "q8_0")
    ours = reading(module, "kernels")
    expected = ours.feed([5, 17, 3])
    with torch.inference_mode():
        module(torch.tensor([5, 17, 3]), Context.of((3,), forms=NAMED["kernels"]))
    free = [end - start for piece in arena.pieces for start, end in piece.free]
    others = [arena.empty(size, dtype=torch.uint8).fill_(255) for size in free]
    again = reading(module, "kernels")
    (plan,) = ours.steps.shelf.idle
    assert torch.equal(again.feed([5, 17, 3]), expected) and again.steps.shelf.idle == [plan] and others


def test_what_is_left_to_torch():
    assert lists(PLAIN.build(64))
    for told in ({"head_dim": 16}, {"rank": 40}, {"value_dim": 20}, {"absorb": False}, {"rope": Rope(width=8)}):
        assert not lists(replace(PLAIN, **told).build(64)), told
    assert not lists(PLAIN.build(48))
