from __future__ import annotations

import math

import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from cutaway.nn.experts.balance import balance_loss, entropy, load, max_violation, nudged, z_loss
from cutaway.nn.experts.routers import SoftmaxTopK, TopKSoftmax
from cutaway.nn.experts.routing import Routing


def routing(chosen, likely):
    likely_NE = torch.tensor(likely, dtype=torch.float64)
    chosen_NJ = torch.tensor(chosen)
    return Routing(chosen_NJ=chosen_NJ, weights_NJ=chosen_NJ.double(), logits_NE=likely_NE.log(), likely_NE=likely_NE)


@pytest.mark.parametrize("top_k", [1, 3])
def test_equals_transformers_up_to_the_number_of_choices(top_k):
    """transformers lets the shares of choices add up to top_k."""
    logits_NE = torch.randn(30, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ours = balance_loss(SoftmaxTopK(top_k=top_k).route(logits_NE))
    theirs = load_balancing_loss_func((logits_NE,), num_experts=7, top_k=top_k)
    torch.testing.assert_close(ours * top_k, theirs)
    slopes = [torch.autograd.grad(loss, logits_NE)[0] for loss in (ours * top_k, theirs)]
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-8)


def test_even_is_1_and_all_to_one_is_the_number_of_experts():
    assert float(balance_loss(routing([[0], [1], [2], [3]], [[0.25] * 4] * 4))) == pytest.approx(1.0)
    assert float(balance_loss(routing([[2]] * 4, [[0.0, 0.0, 1.0, 0.0]] * 4))) == pytest.approx(4.0)


def test_the_gradient_takes_from_the_busy():
    logits_NE = torch.tensor([[1.0, 0.0, 0.0]] * 5, requires_grad=True)
    balance_loss(TopKSoftmax(top_k=1).route(logits_NE)).backward()
    assert (logits_NE.grad[:, 0] > 0).all() and (logits_NE.grad[:, 1:] < 0).all()


def test_z_loss_of_even_logits_is_known():
    found = z_loss(SoftmaxTopK(top_k=1).route(torch.full((6, 4), 2.0, dtype=torch.float64)))
    assert float(found) == pytest.approx((2.0 + math.log(4)) ** 2)


def test_load_counts_every_choice():
    assert load(torch.tensor([[0, 3], [3, 1], [3, 0]]), 5).tolist() == [2, 1, 0, 3, 0]
    assert load(torch.zeros(0, 2, dtype=torch.long), 3).tolist() == [0, 0, 0]


def test_max_violation():
    assert float(max_violation(torch.tensor([5.0, 5.0, 5.0]))) == 0.0
    assert float(max_violation(torch.tensor([9.0, 0.0, 0.0]))) == 2.0
    assert float(max_violation(torch.tensor([4.0, 2.0]))) == pytest.approx(1 / 3)


def test_a_nudge_goes_up_below_the_mean_and_down_above():
    bias_E = torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert nudged(bias_E, torch.tensor([0.0, 9.0, 3.0, 0.0]), 0.5).tolist() == [1.5, 0.5, 1.0, 1.5]
    assert bias_E.tolist() == [1.0] * 4


def test_entropy_from_certain_to_even():
    found = entropy(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]]))
    torch.testing.assert_close(found, torch.tensor([0.0, math.log(4)]))


def test_no_tokens_have_no_losses():
    empty = SoftmaxTopK(top_k=2).route(torch.zeros(0, 4))
    assert float(balance_loss(empty)) == float(z_loss(empty)) == 0.0
