"""SGD against torch.optim and its own equations."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train.optimisers.descent import Pace
from cutaway.train.optimisers.sgd import SGD, sgd

WAYS = [(0.0, False), (0.9, False), (0.9, True)]


@pytest.mark.parametrize(("momentum", "nesterov"), WAYS)
# float64 shows the equation; float32 what is left of it after 12 steps of roundings.
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_it_steps_as_torch_does(momentum, nesterov, dtype, rtol, toy, walk, near, split):
    ours, theirs = toy(dtype), toy(dtype)
    decayed, rest = split(theirs)
    groups = [{"params": decayed, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}]
    walk(ours, SGD(rate=0.02, momentum=momentum, nesterov=nesterov, decay=0.3).build(ours), 12)
    walk(theirs, torch.optim.SGD(groups, lr=0.02, momentum=momentum, nesterov=nesterov, foreach=False), 12)
    near(ours, theirs, rtol)


@pytest.mark.parametrize(("momentum", "nesterov"), WAYS)
def test_all_at_once_is_one_at_a_time(momentum, nesterov):
    torch.manual_seed(2)
    rule, pace = SGD(momentum=momentum, nesterov=nesterov), Pace(count=3, rate=0.1, decay=0.2)
    weights, gradients, velocities = ([torch.randn(3, 4, dtype=torch.float64) for _ in range(2)] for _ in range(3))
    single = [[tensor.clone() for tensor in tensors] for tensors in (weights, gradients, velocities)]
    rule.update(weights, gradients, {"velocity": velocities} if momentum else {}, pace)
    for weight, gradient, velocity in zip(*single, strict=True):
        sgd(weight, gradient, velocity, pace, momentum, nesterov)
    torch.testing.assert_close(weights, single[0], rtol=1e-14, atol=1e-14)
    if momentum:
        torch.testing.assert_close(velocities, single[2], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_run_goes_on_bit_for_bit_from_its_state(momentum, toy, resumed):
    straight, again = resumed(SGD(momentum=momentum), lambda: toy(torch.float32))
    assert all(torch.equal(one, other) for one, other in zip(straight.parameters(), again.parameters(), strict=True))


def test_nesterov_needs_a_momentum():
    with pytest.raises(BadInput, match=r"SGD\.nesterov"):
        SGD(momentum=0.0, nesterov=True)
