"""A mixture of experts as kernels: every rule of choice against the routers, gathered products against plain loops."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.infer.kernel_experts import choice
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.routers import SigmoidTopK, SoftmaxTopK, TopKSoftmax
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.cpu.experts import (
    MOST,
    Choice,
    gathered_kernel,
    gathered_readable,
    route_kernel,
    route_readable,
)
from cutaway.ops.cpu.pack import Strips, rounded

CLOSE = {"rtol": 3e-6, "atol": 1e-7}  # weights: exponentials and one division, each within fp32's last bits

RULES = (
    SoftmaxTopK(top_k=2),
    SoftmaxTopK(top_k=3, renormalise=True, scale=2.5),
    SoftmaxTopK(top_k=4, groups=Groups(count=4, top_k=2)),
    TopKSoftmax(top_k=2),
    SigmoidTopK(top_k=1),
    SigmoidTopK(top_k=4, renormalise=False, scale=1.5, groups=Groups(count=4, top_k=2, worth="best two")),
    SigmoidTopK(top_k=4, groups=Groups(count=2, top_k=1, worth="best two")),
)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("size", [0.1, 3.0])
def test_every_rule_is_its_routers(kernels, rule, size):
    torch.manual_seed(0)
    logits_NE, told = torch.randn(33, 16) * size, choice(rule)
    bias_E = torch.randn(16) * 0.2 if rule.biased else None
    right = rule.route(logits_NE, bias_E)
    for found in (route_kernel(logits_NE, told, bias_E), route_readable(logits_NE, told, bias_E)):
        torch.testing.assert_close(found[1], right.weights_NJ, **CLOSE)
        assert torch.equal(found[0], right.chosen_NJ)


def test_logits_far_apart_are_chosen_by_themselves(kernels):
    """Their probabilities would all be 0 but for one."""
    logits_NE = torch.randn(9, 12) * 500
    found, right = route_kernel(logits_NE, choice(TopKSoftmax(top_k=4))), TopKSoftmax(top_k=4).route(logits_NE)
    assert torch.equal(found[0], right.chosen_NJ) and torch.isfinite(found[1]).all()
    torch.testing.assert_close(found[1], right.weights_NJ, rtol=1e-4, atol=1e-7)  # e^x of large x


@pytest.mark.parametrize("int8", [False, True], ids=["floats", "bytes"])
@pytest.mark.parametrize("tokens", [1, 2, 7, 40])
@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (4, 2), (9, 3)])
def test_gathered_products(kernels, experts, top_k, tokens, int8):
    """Uneven shares: some experts get no rows, some more than a tile holds."""
    torch.manual_seed(tokens)
    matrices = [torch.randn(37, 64) for _ in range(experts)]
    scores = torch.randn(tokens, experts) + torch.arange(experts) * 0.5
    chosen, weights = route_readable(scores, Choice(rule="softmax then top", top_k=top_k))
    x = torch.randn(tokens, 64)
    right = gathered_readable(x, chosen, weights, matrices)
    if not int8:
        found = gathered_kernel(x, chosen, weights, [Strips.plain(one) for one in matrices])
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)  # sums of 64 products of size 1
        return
    strips = [Strips.of(quantise(one, FORMATS["q8_0"]), FORMATS["q8_0"]) for one in matrices]
    codes = rounded(x)
    x = (codes.codes_NG * codes.scales_NG[..., None]).flatten(1)
    right = gathered_readable(x, chosen, weights, [one.weights() for one in strips])
    found = gathered_kernel(x, chosen, weights, strips, int8=True)
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def test_more_experts_than_there_is_room_for_are_refused(kernels):
    with pytest.raises(BadInput, match="more than 1024"):
        route_kernel(torch.zeros(1, MOST + 1), Choice(rule="softmax then top", top_k=1))
