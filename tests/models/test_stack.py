from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.models.stack import Stack
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Learned, Sinusoidal
from cutaway.nn.relative_bias import RelativeBias

BLOCK = Block(mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=4), feed=Plain(hidden=12), before=RMSNorm())
VALUES = {
    "sinusoidal": Stack(blocks=(BLOCK, BLOCK), positions=Sinusoidal(length=20)),
    "learned": Stack(blocks=(BLOCK,), positions=Learned(length=20), norm=RMSNorm()),
    "relative": Stack(blocks=(BLOCK, BLOCK), relative=RelativeBias(heads=2, causal=True, buckets=4, furthest=6)),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())


def build(spec: Stack, dropout: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spec.build(8, dropout).double().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


@EACH
@torch.no_grad()
def test_cached_equals_uncached_and_packed_equals_alone(spec):
    module, lengths = build(spec), (9, 1, 5)
    x_ND = torch.randn(15, 8, dtype=torch.float64)
    full = module(x_ND, Context.of(lengths))[0].split(lengths)
    for x, packed in zip(x_ND.split(lengths), full, strict=True):
        streams = tuple(block.streams(8) for block in spec.blocks)
        cache, parts = ContiguousCache(streams, dtype=torch.float64), []
        for rows in x.split(2):
            parts.append(module(rows, Context.of((len(rows),), cache=cache))[0])
            cache.advance((len(rows),))
        # Float64 sums in another order.
        assert torch.allclose(torch.cat(parts), packed, atol=1e-12)
        assert torch.allclose(module(x, Context.of((len(x),)))[0], packed, atol=1e-12)


@EACH
def test_it_costs_what_it_says(spec):
    assert spec.cost(8, 1, 9).parameters == sum(parameter.numel() for parameter in build(spec).parameters())


@pytest.mark.parametrize("spec", [VALUES["sinusoidal"], VALUES["learned"]])
def test_a_sequence_beyond_its_length_is_refused(spec):
    module = build(spec)
    module(torch.zeros(20, 8, dtype=torch.float64), Context.of((20,)))
    with pytest.raises(BadInput, match="21 tokens, the stack's most is 20"):
        module(torch.zeros(23, 8, dtype=torch.float64), Context.of((2, 21)))
    assert VALUES["relative"].length is None


def test_recomputed_blocks_give_the_same_gradients():
    """The bias is made before the blocks: a block that is run again finds it as it was."""
    spec, slopes = VALUES["relative"], []
    x_ND = torch.randn(7, 8, dtype=torch.float64)
    for again in (False, True):
        module = build(spec)
        if again:
            for block in module.blocks:
                run = block.forward
                block.forward = lambda x, context, run=run: torch.utils.checkpoint.checkpoint(
                    run, x, context, use_reentrant=False
                )
        y_ND, _ = module(x_ND, Context.of((4, 3)))
        slopes.append(torch.autograd.grad(y_ND.square().sum(), list(module.parameters())))
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(*slopes, strict=True))


def test_dropout_acts_in_training_only():
    module, x_ND = build(VALUES["sinusoidal"], dropout=0.5), torch.randn(5, 8, dtype=torch.float64)
    assert not torch.equal(module.train()(x_ND, Context.of((5,)))[0], module(x_ND, Context.of((5,)))[0])
    assert torch.equal(module.eval()(x_ND, Context.of((5,)))[0], module(x_ND, Context.of((5,)))[0])


def test_the_residual_behind_each_block_is_reported_where_wanted():
    module = build(VALUES["sinusoidal"])
    _, report = module(torch.randn(3, 8, dtype=torch.float64), Context.of((3,), want=frozenset({"residual"})))
    assert set(report) == {"blocks.0.residual_ND", "blocks.1.residual_ND"}


@pytest.mark.parametrize("wrong", [{"blocks": ()}, {"relative": RelativeBias(heads=3, causal=True)}])
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match="Stack"):
        replace(VALUES["relative"], **wrong)


def test_one_bias_alone():
    sloped = replace(BLOCK, mixer=replace(BLOCK.mixer, alibi=Alibi()))
    with pytest.raises(BadInput, match=r"Stack\.relative: .* ALiBi"):
        replace(VALUES["relative"], blocks=(BLOCK, sloped))
