"""GPTQ over a whole decoder leaves its answers nearer to what they were than plain rounding does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.infer.load import load
from cutaway.lab.checks.perplexity import perplexity
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated
from cutaway.nn.linear import Linear
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import QuantisedLinear
from cutaway.ops.blocks.scheme import Absmax
from cutaway.weights.calibration import calibrate
from cutaway.weights.parameters import held, plain
from cutaway.weights.precision import put_in
from cutaway.weights.shelf import get

SCHEME = Absmax(bits=4, share=32)
MIXER = GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8), bias=True)


def made(feed=None, tied: bool = True) -> DecoderModel:
    torch.manual_seed(0)
    block = Block(mixer=MIXER, feed=feed or Gated(hidden=64), before=RMSNorm())
    module = Decoder(vocab=64, dim=32, blocks=(block,) * 3, length=64, norm=RMSNorm(), tied=tied).build().eval()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return module


def ids(seed: int, count: int = 12) -> Tensor:
    """Texts of few different tokens: what maps are given goes together, as in real texts."""
    return torch.randint(0, 12, (count, 40), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def said(module: DecoderModel, ids_BT: Tensor) -> Tensor:
    return module(ids_BT.flatten(), Context.of((40,) * len(ids_BT)))[0].log_softmax(-1)


def away(module: DecoderModel, exact: Tensor, ids_BT: Tensor) -> float:
    """KL of what it says from what the exact model says, in nats a token."""
    return float((exact.exp() * (exact - said(module, ids_BT))).sum(-1).mean())


def test_answers_stay_nearer_than_by_plain_rounding():
    fresh = ids(1)
    exact = said(made(), fresh)
    plainly, better = made(), made()
    put_in(plainly, SCHEME)
    assert list(calibrate(better, ids(0), SCHEME)) == [0, 1, 2]
    assert away(better, exact, fresh) < 0.8 * away(plainly, exact, fresh), "on texts that it has not seen"


def test_every_map_is_rounded_and_what_is_outside_the_blocks_plainly():
    plainly, better = made(tied=False), made(tied=False)
    put_in(plainly, SCHEME)
    list(calibrate(better, ids(0), SCHEME))
    assert not any(isinstance(part, Linear) for part in better.modules())
    formats = {name: part.packed.format.name for name, part in better.named_modules() if hasattr(part, "packed")}
    assert formats["embedding"] == "int8" and {*formats.values()} == {"int8", "int4"} and formats["head"] == "int4"
    for name in ("embedding.weight", "head.weight"):
        assert torch.equal(plain(held(better, name)), plain(held(plainly, name)))


def test_biases_and_norms_stay_and_experts_that_nothing_reached_are_rounded_plainly():
    feed = Experts(count=3, expert=Gated(hidden=32), router=SoftmaxTopK(top_k=1))
    module, before = made(feed), made(feed)
    list(calibrate(module, ids(0, count=1)[:, :4], SCHEME))
    assert any(isinstance(part, QuantisedLinear) for part in module.modules())
    for name, one in before.named_parameters():
        if one.ndim == 1:
            assert torch.equal(module.get_parameter(name), one)


def test_no_texts_are_refused():
    with pytest.raises(BadInput, match="ids_BT"):
        list(calibrate(made(), torch.empty(0, 4, dtype=torch.long), SCHEME))


@pytest.mark.proof
def test_a_real_model_loses_less(shared_data):
    """SmolLM2 in 4 bits, groups of 64: perplexity of a text that was not calibrated on."""
    text = (shared_data("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")
    found = {}
    for name in ("exact", "nearest", "gptq"):
        language = load(get("smollm2-135m"))
        assert isinstance(language, Language) and isinstance(language.module, DecoderModel) and language.tokenizer
        told = language.tokenizer.encode(text[:40_000])
        if name == "nearest":
            put_in(language.module, Absmax(bits=4, share=64))
        elif name == "gptq":
            calibrated = torch.tensor(told[: 16 * 128]).view(16, 128)
            list(calibrate(language.module, calibrated, Absmax(bits=4, share=64)))
        read = language.tokenizer.encode(text[-3000:])[:512]
        found[name] = math.log(perplexity(Language(language.module), read, 512))
    lost = {name: one - found["exact"] for name, one in found.items()}
    assert lost["gptq"] < 0.7 * lost["nearest"], lost
