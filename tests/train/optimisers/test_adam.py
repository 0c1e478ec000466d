"""Adam in three forms, against torch.optim and the paper's own first step."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train.optimisers.adam import Adam

# float64 shows the equation; float32 what is left of it after 12 steps of roundings in another order.
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 2e-5)]


@pytest.mark.parametrize("form", ["readable", "foreach", "fused"])
@pytest.mark.parametrize(("dtype", "rtol"), PRECISIONS)
def test_it_steps_as_torch_does(form, dtype, rtol, toy, walk, near, split):
    ours, theirs = toy(dtype), toy(dtype)
    value = Adam(rate=0.02, betas=(0.8, 0.95), eps=1e-6, decay=0.3, form=form)
    decayed, rest = split(theirs)
    groups = [{"params": decayed, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}]
    walk(ours, value.build(ours), 12)
    walk(theirs, torch.optim.Adam(groups, lr=0.02, betas=(0.8, 0.95), eps=1e-6, foreach=False), 12)
    near(ours, theirs, rtol)


@pytest.mark.parametrize("form", ["readable", "foreach", "fused"])
def test_the_first_step_is_the_rate_whatever_the_gradient(form, toy, walk):
    module = toy(torch.float64)
    before = [weight.detach().clone() for weight in module.parameters()]
    walk(module, Adam(rate=0.01, eps=0.0, form=form).build(module), 1, missing=False)
    for weight, old in zip(module.parameters(), before, strict=True):
        torch.testing.assert_close((weight.detach() - old).abs(), torch.full_like(old, 0.01))


@pytest.mark.parametrize("form", ["readable", "foreach", "fused"])
def test_gradients_are_left_as_they_were(form, toy, walk):
    module = toy(torch.float32)
    optimiser = Adam(decay=0.5, form=form).build(module)
    walk(module, optimiser, 1, missing=False)
    before = [weight.grad.clone() for weight in module.parameters()]
    optimiser.step()
    assert all(torch.equal(weight.grad, old) for weight, old in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize("form", ["readable", "foreach", "fused"])
def test_a_run_goes_on_bit_for_bit_from_its_state(form, toy, resumed):
    straight, again = resumed(Adam(form=form), lambda: toy(torch.float32))
    assert all(torch.equal(one, other) for one, other in zip(straight.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("field", "value"), [("rate", -1.0), ("rate", float("nan")), ("eps", -1e-8), ("decay", -0.1), ("betas", (0.9, 1.0))]
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(BadInput, match=f"Adam.{field}"):
        Adam(**{field: value})
