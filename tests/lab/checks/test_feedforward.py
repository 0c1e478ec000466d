"""The checks find every deliberately wrong feed-forward."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from cutaway.lab.checks.feedforward import check_gated, check_plain
from cutaway.nn.cost import Cost
from cutaway.nn.feedforward import Gated, GatedFeed, Plain, PlainFeed
from cutaway.ops.activation import FAST


def with_forward(value, module, forward):
    """The value's twin whose module runs `forward(module, x, context)`."""

    @dataclass(frozen=True, kw_only=True)
    class Wrong(value):
        def build(self, dim):
            built = module(dim, self)
            built.forward = lambda x, context: (forward(built, x, context), {})
            return built

    return Wrong


def act(feed, x):
    return FAST[feed.spec.activation](x)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x, c: m.down(F.gelu(m.up(x, c), approximate="tanh"), c),
        lambda m, x, c: act(m, m.down(m.up(x, c), c)),
        lambda m, x, c: m.down(m.up(act(m, x), c), c),
        lambda m, x, c: m.down(act(m, m.up(x, c)), c) + x,
        lambda m, x, c: F.linear(act(m, m.up(x, c)), m.down.weight),
        lambda m, x, c: m.down(act(m, m.up(x, c)).detach(), c),
        lambda m, x, c: m.down(act(m, m.up(x.mean(0, keepdim=True).expand_as(x), c)), c),
        lambda m, x, c: m.down(F.dropout(act(m, m.up(x, c)), m.spec.dropout), c),
        lambda m, x, c: m.down(act(m, m.up(x, c)), c),
    ],
    ids=[
        "one activation",
        "bent last",
        "bent first",
        "residual",
        "no bias",
        "cut",
        "mixed",
        "drops always",
        "never drops",
    ],
)
def test_a_wrong_plain_feed_is_found(forward):
    with pytest.raises(AssertionError):
        check_plain(with_forward(Plain, PlainFeed, forward))


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x, c: m.down(act(m, m.up(x, c)) * m.gate(x, c), c),
        lambda m, x, c: m.down(act(m, m.gate(x, c) * m.up(x, c)), c),
        lambda m, x, c: m.down(act(m, m.gate(x, c)) + m.up(x, c), c),
        lambda m, x, c: m.down(act(m, m.gate(x, c)), c),
    ],
    ids=["swapped", "product bent", "sum", "no up"],
)
def test_a_wrong_gated_feed_is_found(forward):
    with pytest.raises(AssertionError):
        check_gated(with_forward(Gated, GatedFeed, forward))


def test_a_wrong_cost_is_found():
    @dataclass(frozen=True, kw_only=True)
    class Cheap(Gated):
        def cost(self, dim, tokens, length):
            right = super().cost(dim, tokens, length)
            return Cost(parameters=right.parameters, flops=right.flops // 2)

    with pytest.raises(AssertionError, match="FLOPs"):
        check_gated(Cheap)


def test_the_failure_names_the_activation_and_the_weight():
    def cut(m, x, c):
        return F.linear(act(m, m.up(x, c)), m.down.weight.detach()) + 0 * torch.ones(())

    with pytest.raises(AssertionError, match=r"sigmoid: gradient of down\.weight\[0, 0\]"):
        check_plain(with_forward(Plain, PlainFeed, cut))
