from __future__ import annotations

import pytest
import torch
from transformers import DeepseekV2Config, DeepseekV3Config
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

from cutaway.base.errors import BadInput
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.routers import RouterModule, SigmoidTopK, SoftmaxTopK, TopKSoftmax, check_router


def sorted_pairs(chosen_NJ, weights_NJ):
    """Choices in the order of their indices: transformers leaves the order open."""
    order = chosen_NJ.argsort(-1)
    return chosen_NJ.gather(-1, order), weights_NJ.gather(-1, order)


def same_routing(router, theirs, x_ND):
    ours = RouterModule(x_ND.shape[1], theirs.weight.shape[0], router)
    ours.weight.data = theirs.weight.data
    if ours.bias is not None:
        ours.bias.data = theirs.e_score_correction_bias
    found = ours(x_ND)
    _, weights, chosen = theirs(x_ND)
    got, expected = sorted_pairs(found.chosen_NJ, found.weights_NJ), sorted_pairs(chosen, weights)
    assert torch.equal(got[0], expected[0])
    torch.testing.assert_close(got[1], expected[1], rtol=1e-5, atol=1e-7)  # float32, divided in another order
    return found


@pytest.mark.parametrize("groups", [None, Groups(count=4, top_k=2), Groups(count=2, top_k=1)])
def test_equals_transformers_deepseek_v2(groups):
    torch.manual_seed(0)
    told = {"topk_method": "greedy"}
    if groups is not None:
        told = {"topk_method": "group_limited_greedy", "n_group": groups.count, "topk_group": groups.top_k}
    config = DeepseekV2Config(
        hidden_size=6,
        num_attention_heads=1,
        n_routed_experts=8,
        num_experts_per_tok=3,
        routed_scaling_factor=2.5,
        **told,
    )
    theirs = DeepseekV2TopkRouter(config)
    theirs.weight.data.normal_()
    same_routing(SoftmaxTopK(top_k=3, groups=groups, scale=2.5), theirs, torch.randn(40, 6))


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("groups", [Groups(count=4, top_k=2, worth="best two"), Groups(count=1, top_k=1)])
def test_equals_transformers_deepseek_v3(renormalise, groups):
    torch.manual_seed(1)
    config = DeepseekV3Config(
        hidden_size=6,
        n_routed_experts=8,
        num_experts_per_tok=3,
        n_group=groups.count,
        topk_group=groups.top_k,
        norm_topk_prob=renormalise,
        routed_scaling_factor=2.5,
    )
    theirs = DeepseekV3TopkRouter(config)
    theirs.weight.data.normal_()
    theirs.e_score_correction_bias.normal_(std=0.3)
    x_ND = torch.randn(40, 6)
    router = SigmoidTopK(top_k=3, renormalise=renormalise, groups=groups, scale=2.5)
    found = same_routing(router, theirs, x_ND)
    theirs.e_score_correction_bias.zero_()
    assert not torch.equal(sorted_pairs(*theirs(x_ND)[:0:-1])[0], sorted_pairs(found.chosen_NJ, found.weights_NJ)[0])


def test_renormalised_softmax_then_top_k_is_top_k_then_softmax():
    logits_NE = torch.randn(50, 9, dtype=torch.float64) * 3
    one, other = SoftmaxTopK(top_k=4, renormalise=True).route(logits_NE), TopKSoftmax(top_k=4).route(logits_NE)
    assert torch.equal(one.chosen_NJ, other.chosen_NJ)
    torch.testing.assert_close(one.weights_NJ, other.weights_NJ, rtol=1e-12, atol=0)
    torch.testing.assert_close(one.likely_NE, other.likely_NE, rtol=1e-12, atol=0)


def test_a_bias_shifts_choices_and_no_weight_and_takes_no_gradient():
    module = RouterModule(4, 6, SigmoidTopK(top_k=1, renormalise=False))
    x_ND = torch.randn(5, 4)
    module.bias.data[2] = 10.0
    found = module(x_ND)
    assert found.chosen_NJ.tolist() == [[2]] * 5
    torch.testing.assert_close(found.weights_NJ, found.logits_NE[:, 2:3].sigmoid())
    found.weights_NJ.sum().backward()
    assert not module.bias.requires_grad and module.bias.grad is None


def test_narrow_tokens_are_scored_in_float32():
    torch.manual_seed(0)
    module, x_ND = RouterModule(64, 8, TopKSoftmax(top_k=2)), torch.randn(20, 64).bfloat16()
    expected = x_ND.float() @ module.weight.T
    assert torch.equal(module(x_ND).logits_NE, expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x_ND).logits_NE, expected)


@pytest.mark.parametrize("make", [SoftmaxTopK, TopKSoftmax, SigmoidTopK])
def test_impossible_routers_are_refused_naming_the_field(make):
    with pytest.raises(BadInput) as caught:
        make(top_k=0)
    assert caught.value.field == f"{make.__name__}.top_k"
    with pytest.raises(BadInput, match=r"5 of 4 experts cannot be chosen"):
        check_router(make(top_k=5), 4)


@pytest.mark.parametrize("make", [SoftmaxTopK, SigmoidTopK])
@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_an_impossible_scale_is_refused(make, scale):
    with pytest.raises(BadInput) as caught:
        make(top_k=1, scale=scale)
    assert caught.value.field == f"{make.__name__}.scale"
