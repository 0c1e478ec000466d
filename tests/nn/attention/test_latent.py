from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.base.errors import BadInput
from cutaway.lab.checks.latent import check_forms, check_latent
from cutaway.lab.checks.mixer import check_mixer
from cutaway.nn.attention.latent import Latent
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import QuantisedLinear
from cutaway.nn.rope_scaling import Yarn
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.choice import ATTEND
from cutaway.ops.forms import FAST, READABLE, Forms
from cutaway.ops.packed import Packed
from cutaway.ops.visible import Visible

DIM = 24
ROPE = Rope(width=4, interleaved=True)
YARN = Rope(width=8, interleaved=True, scaling=Yarn(factor=4.0, original_length=8, mscale=1.0, mscale_all_dim=0.7))
VALUES = {
    "plain": Latent(heads=3, rank=8, head_dim=6, rope=ROPE),
    "queries compressed": Latent(heads=4, rank=8, head_dim=4, value_dim=6, query_rank=5, rope=ROPE, bias=True),
    "narrow values, yarn": Latent(heads=2, rank=16, head_dim=8, value_dim=3, rope=YARN, out_bias=True),
    "small rank": Latent(heads=4, rank=2, head_dim=8, rope=Rope(width=4), scale=0.3, norm=RMSNorm(eps=1e-2)),
    "always expanded": Latent(heads=2, rank=8, head_dim=4, rope=ROPE, absorb=False),
    "always absorbed": Latent(heads=2, rank=8, head_dim=4, rope=ROPE, absorb=True),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())


def build(spec: Latent) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spec.build(DIM)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)  # scores far from zero, biases too
    return module


def run_as(forms=FAST, absorb=None):
    """Our module as the checks call it."""

    def run(spec, weights, x_ND, lengths):
        module = replace(spec, absorb=absorb).build(x_ND.shape[1])
        return torch.func.functional_call(module, weights, (x_ND, Context.of(lengths, forms=forms)))[0]

    return run


@pytest.mark.parametrize("forms", [FAST, READABLE], ids=["fast", "readable"])
def test_it_is_the_equation(forms):
    """Expanded or absorbed, as each of the checked values has it by the rule."""
    check_latent(run_as(forms))


def test_both_forms_and_their_gradients_are_equal():
    assert check_forms(run_as(absorb=False), run_as(absorb=True)) < 1e-10


@EACH
def test_it_keeps_every_law(spec):
    check_mixer(build(spec), spec.streams(DIM), DIM)


@EACH
def test_every_form_of_attention_equals_the_readable_one(spec):
    module, x_ND = build(spec).double(), torch.randn(17, DIM, dtype=torch.float64)
    slow = module(x_ND, Context.of((9, 1, 7), forms=READABLE))[0]
    for choice in (choice for choice in ATTEND.values() if choice.lacks() is None):
        fast = module(x_ND, Context.of((9, 1, 7), forms=Forms(attend=choice.form)))[0]
        assert torch.allclose(fast, slow, atol=1e-12), choice.name


@torch.no_grad()
def test_both_forms_read_one_cache_alike():
    """Few queries against many keys, several sequences of unequal lengths, forms changed in the middle."""
    spec, x_ND = VALUES["queries compressed"], torch.randn(26, DIM, dtype=torch.float64)
    module = build(spec).double()
    modules = [replace(spec, absorb=absorb).build(DIM).double() for absorb in (False, True)]
    for one in modules:
        one.load_state_dict(module.state_dict())
    cache = ContiguousCache((spec.streams(DIM),), sequences=2, dtype=torch.float64)
    module(x_ND[:20], Context.of((13, 7), cache=cache))
    cache.advance((13, 7))
    for new in ((1, 1), (3, 0), (2, 4)):
        x = x_ND[20 : 20 + sum(new)]
        marks = [cache.snapshot(index) for index in range(2)]
        found = []
        for one in modules:
            found.append(one(x, Context.of(new, cache=cache))[0])
            cache.advance(new)
            for index, mark in enumerate(marks):
                cache.restore(index, mark)
        assert torch.allclose(*found, atol=1e-10, rtol=0)


def test_the_form_is_the_one_that_multiplies_less():
    """DeepSeek-V2's sizes: a prompt is expanded, a token behind it absorbed, and so are a few at once."""
    spec = Latent(heads=128, rank=512, head_dim=128, query_rank=1536, rope=Rope(width=64, interleaved=True))
    module = Latent(heads=1, rank=512, head_dim=128, rope=spec.rope).build(1)
    for lengths, keys, absorbs in (
        ((4096,), (4096,), False),
        ((1,), (4096,), True),
        ((1,) * 8, (900,) * 8, True),
        ((8,), (4096,), True),
        ((2048,), (4096,), False),
        ((512, 1, 1, 1), (512, 4000, 4000, 4000), True),  # those that decode weigh more
        ((512, 1), (512, 600), False),
    ):
        assert module.absorbs(Visible(queries=lengths, keys=keys)) == absorbs
    for tokens, length in ((300, 300), (1, 300), (40, 300), (170, 300)):
        forced = [replace(spec, absorb=absorb).cost(5120, tokens, length).flops for absorb in (False, True)]
        assert spec.cost(5120, tokens, length).flops == min(forced)
    # Of equal products the expanded form's are taken: it is the plain one.
    assert not Latent(heads=1, rank=4, head_dim=4, rope=ROPE).absorbs(5, 5, 15)


@EACH
@torch.no_grad()
def test_it_costs_what_it_says(spec):
    """Parameters and cache bytes exactly; FLOPs as torch counts the readable form's products, less what the mask hides:
    a full pass, a few tokens behind it, and one."""
    module, cache = build(spec), ContiguousCache((spec.streams(DIM),), slack=0)
    length = 0
    for tokens in (30, 4, 1):
        length += tokens
        cost = spec.cost(DIM, tokens, length)
        context = Context.of((tokens,), cache=cache, forms=READABLE)
        with FlopCounterMode(display=False) as counter:
            module(torch.randn(tokens, DIM), context)
        cache.advance((tokens,))
        absorbs = module.absorbs(Visible(queries=(tokens,), keys=(length,)))
        width = spec.rope.width + (2 * spec.rank if absorbs else spec.head_dim + spec.value_width)
        hidden = tokens * (tokens - 1) // 2
        assert counter.get_total_flops() == cost.flops + 2 * spec.heads * width * hidden
        assert cost.cache_bytes == 4 * length * (spec.rank + spec.rope.width)
    assert cost.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert cache.bytes == cost.cache_bytes


def test_it_keeps_one_latent_and_one_key_whatever_the_heads():
    for heads in (1, 7):
        kept = Latent(heads=heads, rank=5, head_dim=6, rope=ROPE).streams(DIM)
        assert [(one.name, one.shape, one.per) for one in kept] == [
            ("latent", (5,), "token"),
            ("rope_key", (4,), "token"),
        ]


@torch.no_grad()
def test_packed_weights_serve_both_forms():
    """What quantised matrices hold is the same numbers to both."""
    spec = Latent(heads=2, rank=32, head_dim=16, rope=ROPE)
    found = []
    for absorb in (False, True):
        module = replace(spec, absorb=absorb).build(DIM).double()
        torch.manual_seed(1)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        blocks = quantise(module.up.weight.float(), FORMATS["q8_0"])
        module.up = QuantisedLinear(Packed(blocks=blocks, format=FORMATS["q8_0"]))
        found.append(module(torch.randn(6, DIM, dtype=torch.float64), Context.of((6,), forms=READABLE))[0])
    # The same blocks, multiplied in float32 by one form and in float64 by the other.
    assert torch.allclose(*found, atol=1e-5)


def test_entropy_is_that_of_the_same_weights_in_both_forms():
    x_ND, found = torch.randn(5, DIM), []
    for absorb in (False, True):
        module = build(replace(VALUES["plain"], absorb=absorb))
        assert module(x_ND, Context.of((5,)))[1] == {}
        found.append(module(x_ND, Context.of((3, 2), want=frozenset({"attention"})))[1]["entropy_NH"])
    assert found[0].shape == (5, 3) and bool((found[0] <= math.log(3)).all())
    assert torch.allclose(*found, atol=1e-5)


def test_a_bias_on_scores_is_the_same_to_both_forms():
    x_ND, found = torch.randn(5, DIM, dtype=torch.float64), []
    bias_HTS = torch.randn(3, 5, 5, dtype=torch.float64)
    for absorb in (False, True):
        module = build(replace(VALUES["plain"], absorb=absorb)).double()
        found.append(module(x_ND, Context.of((5,), bias=lambda see: lambda index: bias_HTS))[0])
        assert not torch.allclose(found[-1], module(x_ND, Context.of((5,)))[0])
    assert torch.allclose(*found, atol=1e-10)


def test_dropout_acts_in_training_only():
    module, x_ND = build(replace(VALUES["plain"], dropout=0.5)), torch.randn(6, DIM)
    drawn = [module.train()(x_ND, Context.of((6,)))[0] for _ in range(2)]
    kept = [module.eval()(x_ND, Context.of((6,)))[0] for _ in range(2)]
    assert not torch.equal(*drawn)
    assert torch.equal(*kept)


@torch.no_grad()
@pytest.mark.parametrize("absorb", [False, True])
def test_a_cache_keeps_its_own_precision(absorb):
    spec = replace(VALUES["queries compressed"], absorb=absorb)
    module, x_ND = build(spec), torch.randn(9, DIM)
    cache = ContiguousCache((spec.streams(DIM),), dtype=torch.bfloat16)
    y_ND = module(x_ND, Context.of((9,), cache=cache))[0]
    exact = module(x_ND, Context.of((9,)))[0]
    assert y_ND.dtype == torch.float32 and cache.read(0, "latent")[0].dtype == torch.bfloat16
    # bfloat16 keeps 8 bits of each number of the latent; sums of a few dozen such, over outputs of about 3.
    assert torch.allclose(y_ND, exact, atol=0.05 * float(exact.abs().max()))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"heads": 0}, "heads"),
        ({"rank": 0}, "rank"),
        ({"head_dim": -1}, "head_dim"),
        ({"value_dim": 0}, "value_dim"),
        ({"query_rank": 0}, "query_rank"),
        ({"dropout": 1.0}, "dropout"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_an_impossible_value_is_refused(wrong, name):
    with pytest.raises(BadInput) as caught:
        Latent(**{"heads": 4, "rank": 8, "head_dim": 8, "rope": ROPE, **wrong})
    assert caught.value.field == f"Latent.{name}"
