"""Mixtures of experts within lists: models of several routers against torch, and how much of them kernels run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.infer.quantising import LLAMA, UNIT
from torch import nn

from cutaway.infer.continuation import Continuation
from cutaway.infer.kernel_experts import lists
from cutaway.infer.kernel_reach import listed
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SigmoidTopK, SoftmaxTopK, TopKSoftmax
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.linear import Linear
from cutaway.nn.norms import RMSNorm
from cutaway.nn.quantised import QuantisedLinear
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.cpu.build import kernels
from cutaway.ops.forms import NAMED, READABLE
from cutaway.ops.packed import Packed

# Logits of size 1 to 15 behind two blocks: fp32 sums in another order, a few parts in a million each. Choices among
# experts are the same: two scores so close that these decide would be one in a hundred thousand.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}

SMALL = Gated(hidden=32)
FEEDS = {
    "mixtral": Experts(expert=SMALL, count=4, router=TopKSoftmax(top_k=2)),
    "qwen3": Experts(expert=SMALL, count=9, router=SoftmaxTopK(top_k=3, renormalise=True)),
    "deepseek-v2": Experts(
        expert=SMALL,
        count=8,
        router=SoftmaxTopK(top_k=2, scale=4.0, groups=Groups(count=4, top_k=2)),
        shared=Gated(hidden=64),
    ),
    "deepseek-v3": Experts(
        expert=SMALL,
        count=8,
        router=SigmoidTopK(top_k=3, scale=2.5, groups=Groups(count=2, top_k=1, worth="best two")),
        shared=SMALL,
    ),
    "qwen2": Experts(expert=SMALL, count=5, router=SoftmaxTopK(top_k=2), shared=Gated(hidden=96), shared_gated=True),
    "plain": Experts(expert=Plain(hidden=64, activation="gelu", bias=True), count=3, router=SoftmaxTopK(top_k=1)),
}

here = pytest.mark.skipif(kernels().library is None, reason=f"no kernels: {kernels().why}")


def decoder(feed: Experts, **told) -> DecoderModel:
    torch.manual_seed(7)
    blocks = (replace(LLAMA, feed=feed, **told), replace(LLAMA, feed=feed, **told))
    module = Decoder(vocab=96, dim=64, length=128, blocks=blocks, norm=UNIT).build().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else 0.15)
    for name, parameter in module.named_parameters():
        if name.endswith("router.weight"):
            nn.init.normal_(parameter, std=0.5)
    return module.requires_grad_(False)


def pair(module, name="kernels"):
    """The same text by kernels and by torch."""
    told = {"dtype": torch.float32, "device": torch.device("cpu"), "kept": torch.float32}
    ours, theirs = Continuation(module, NAMED[name], **told), Continuation(module, READABLE, **told)
    assert ours.steps is not None
    return ours, theirs


def close(ours, theirs):
    for ids in ([5, 17, 3, 80, 44, 1, 9], [4], list(range(40)), [7]):
        torch.testing.assert_close(ours.feed(ids), theirs.feed(ids), **CLOSE)


@here
@pytest.mark.parametrize("name", FEEDS)
def test_every_mixture_is_what_torch_computes(name):
    """Steps, and prompts in which an expert has no rows, some, or more than a tile holds."""
    module = decoder(FEEDS[name])
    assert listed(module) == 4
    ours, theirs = pair(module)
    close(ours, theirs)
    assert all("torch" not in plan.names for plan in ours.steps.shelf.idle)


@here
@pytest.mark.parametrize(
    "told", [{"before": None, "outside": RMSNorm()}, {"after": RMSNorm()}], ids=["post", "sandwich"]
)
def test_norms_wherever_they_stand(told):
    close(*pair(decoder(FEEDS["deepseek-v3"], **told)))


@here
@pytest.mark.parametrize("name", ["kernels", "kernels-int8"])
def test_packed_experts(name):
    """int8 activations round as they do for any packed map; the router's scores stay in fp32."""
    module = decoder(FEEDS["mixtral"])
    for path, part in list(module.named_modules()):
        if ".experts." in path and type(part) is Linear:
            packed = Packed(blocks=quantise(part.weight, FORMATS["q8_0"]), format=FORMATS["q8_0"])
            module.set_submodule(path, QuantisedLinear(packed))
    ours, theirs = pair(module, name)
    if name == "kernels":
        close(ours, theirs)
        return
    found, right = ours.feed([4, 9, 2]), theirs.feed([4, 9, 2])
    # A product's numbers are off by 1/254 of their group's largest at most, mostly by a quarter of that.
    assert 0 < ((found - right).abs().amax() / right.std()) < 0.1


def test_what_is_left_to_torch():
    assert lists(decoder(FEEDS["mixtral"]).blocks[0].feed)
    for feed in (Gated(hidden=40), Gated(hidden=32, activation="relu")):
        mixture = decoder(replace(FEEDS["mixtral"], expert=feed)).blocks[0].feed
        assert lists(mixture) == (feed.hidden == 32)
