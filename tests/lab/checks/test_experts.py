"""The checks find every deliberately wrong mixture and dispatch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from cutaway.lab.checks.experts import check_dispatch, check_experts
from cutaway.nn.cost import Cost
from cutaway.nn.experts import routers
from cutaway.nn.experts.mixture import Experts, ExpertsFeed
from cutaway.ops.dispatch import dispatch_sorted


def with_routing(change):
    """Experts whose routing is `change(routing, router)`."""

    @dataclass(frozen=True, kw_only=True)
    class Wrong(Experts):
        def build(self, dim):
            built = ExpertsFeed(dim, self)
            right = built.router.forward
            built.router.forward = lambda x_ND: change(right(x_ND), built.router)
            return built

    return Wrong


def weights(change):
    return with_routing(lambda found, router: replace(found, weights_NJ=change(found, router)))


WRONG = {
    "weights cut from the gradient": weights(lambda found, router: found.weights_NJ.detach()),
    "always renormalised": weights(lambda found, router: found.weights_NJ / found.weights_NJ.sum(-1, keepdim=True)),
    "weights in another order": weights(lambda found, router: found.weights_NJ.flip(-1)),
    "no scale": weights(lambda found, router: found.weights_NJ / getattr(router.rule, "scale", 1.0)),
    "bias in the weights": weights(
        lambda found, router: (
            found.weights_NJ if router.bias is None else found.weights_NJ + router.bias[found.chosen_NJ]
        )
    ),
    "worst chosen": with_routing(
        lambda found, router: replace(found, chosen_NJ=found.likely_NE.topk(router.rule.top_k, largest=False).indices)
    ),
    "losses from the wrong scores": with_routing(
        lambda found, router: replace(found, likely_NE=found.logits_NE.sigmoid())
    ),
    "choices ignore groups and bias": with_routing(
        lambda found, router: replace(found, chosen_NJ=found.logits_NE.topk(router.rule.top_k).indices)
    ),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_a_wrong_routing_is_found(make):
    with pytest.raises(AssertionError, match="experts, "):
        check_experts(make)


def test_groups_worth_the_wrong_thing_are_found(monkeypatch):
    right = routers.Groups.allowed
    monkeypatch.setattr(
        routers.Groups, "allowed", lambda groups, scores_NE: right(replace(groups, worth="best"), scores_NE)
    )
    with pytest.raises(AssertionError, match="chosen experts"):
        check_experts(Experts)


def test_a_cost_that_counts_all_experts_is_found():
    @dataclass(frozen=True, kw_only=True)
    class Dear(Experts):
        def cost(self, dim, tokens, length):
            right = super().cost(dim, tokens, length)
            idle = self.expert.cost(dim, tokens, length).flops * (self.count - self.router.top_k)
            return Cost(parameters=right.parameters, flops=right.flops + idle)

    with pytest.raises(AssertionError, match="FLOPs"):
        check_experts(Dear)


def dropped(x_ND, chosen_NJ, weights_NJ, experts):
    """A capacity of two tokens an expert, as in Switch: later ones are passed by."""
    kept = torch.ones_like(weights_NJ)
    for expert in range(len(experts)):
        places = (chosen_NJ == expert).nonzero()[2:]
        kept[places[:, 0], places[:, 1]] = 0.0
    return dispatch_sorted(x_ND, chosen_NJ, weights_NJ * kept, experts)


def unsorted_back(x_ND, chosen_NJ, weights_NJ, experts):
    order = chosen_NJ.flatten().argsort(stable=True)
    made = [
        experts[index](x_ND[token : token + 1])
        for index, token in zip(
            chosen_NJ.flatten()[order].tolist(), (order // chosen_NJ.shape[1]).tolist(), strict=True
        )
    ]
    if not made:
        return torch.zeros_like(x_ND)
    return (torch.cat(made).unflatten(0, chosen_NJ.shape) * weights_NJ[..., None]).sum(1)


@pytest.mark.parametrize(
    "dispatch",
    [
        dropped,
        unsorted_back,
        lambda x, chosen, weights, experts: dispatch_sorted(x, chosen, weights.detach(), experts),
        lambda x, chosen, weights, experts: dispatch_sorted(x, chosen, weights, experts) + x,
        lambda x, chosen, weights, experts: dispatch_sorted(x, chosen[:, :1], weights[:, :1], experts),
    ],
    ids=["dropped", "unsorted back", "weights cut", "residual", "the best alone"],
)
def test_a_wrong_dispatch_is_found(dispatch):
    with pytest.raises(AssertionError):
        check_dispatch(dispatch)
