from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.lab.checks.batch_norm import check_batch_norm
from cutaway.nn.batch_norm import BatchNorm


def test_batch_norm_against_its_oracle():
    check_batch_norm(BatchNorm)


@pytest.mark.parametrize(("momentum", "eps"), [(0.1, 1e-5), (0.5, 1e-2)])
def test_several_steps_equal_torch(momentum, eps):
    torch.manual_seed(0)
    ours, twin = BatchNorm(eps=eps, momentum=momentum).build(6), torch.nn.BatchNorm1d(6, eps=eps, momentum=momentum)
    for module in (ours, twin):
        module.double()
        module.weight.data.copy_(torch.linspace(0.5, 2.0, 6))
        module.bias.data.copy_(torch.linspace(-1.0, 1.0, 6))
    optimisers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in (ours, twin)]
    for step in range(5):
        x_ND = torch.randn(3 + 4 * step, 6, dtype=torch.float64) * (step + 1) + step
        target_ND, outcomes = torch.randn_like(x_ND), []
        for module, optimiser in zip((ours, twin), optimisers, strict=True):
            optimiser.zero_grad()
            given = x_ND.clone().requires_grad_()
            y_ND = module(given)
            (y_ND * target_ND).sum().backward()
            optimiser.step()
            outcomes.append((y_ND, given.grad, module.weight.grad, module.bias.grad))
        # Float64 sums in another order.
        for got, expected in zip(*outcomes, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours.running_mean, twin.running_mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.running_variance, twin.running_var, rtol=1e-12, atol=1e-12)
    x_ND = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(ours.eval()(x_ND), twin.eval()(x_ND), rtol=1e-9, atol=1e-9)


def test_the_running_statistics_are_saved_with_the_weights():
    trained, fresh = BatchNorm().build(2), BatchNorm().build(2)
    trained(torch.randn(8, 2) + 5.0)
    fresh.load_state_dict(trained.state_dict())
    x_ND = torch.randn(3, 2)
    assert torch.equal(fresh.eval()(x_ND), trained.eval()(x_ND))


def test_cost_and_meta():
    with torch.device("meta"):
        module = BatchNorm().build(4)
    assert module(torch.empty(3, 4, device="meta")).is_meta and module.eval()(torch.empty(3, 4, device="meta")).is_meta
    assert BatchNorm().cost(4, 3, 3).parameters == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: BatchNorm(eps=0.0), "BatchNorm.eps"),
        (lambda: BatchNorm(momentum=0.0), "BatchNorm.momentum"),
        (lambda: BatchNorm(momentum=1.5), "BatchNorm.momentum"),
    ],
)
def test_impossible_batch_norms_are_refused_naming_the_field(make, field):
    with pytest.raises(BadInput) as caught:
        make()
    assert caught.value.field == field
