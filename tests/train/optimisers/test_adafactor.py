"""Adafactor against torch.optim and its own equations; what it keeps."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train.optimisers.adafactor import Adafactor, adafactor
from cutaway.train.optimisers.descent import Pace


# float64 shows the equation; float32 what is left of it after 12 steps of roundings.
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_it_steps_as_torch_does(dtype, rtol, toy, walk, near, split):
    ours, theirs = toy(dtype), toy(dtype)
    decayed, rest = split(theirs)
    groups = [{"params": decayed, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}]
    walk(ours, Adafactor(rate=0.05, decay=0.3).build(ours), 12)
    # torch bounds the estimate from below where the paper adds to the square: both by next to nothing here.
    walk(theirs, torch.optim.Adafactor(groups, lr=0.05, eps=(1e-30, 1e-3), foreach=False), 12)
    near(ours, theirs, rtol)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5,), ()])
def test_all_at_once_is_one_at_a_time(relative, shape):
    torch.manual_seed(2)
    rule, pace = Adafactor(relative=relative, clip=0.7), Pace(count=400, rate=0.1, decay=0.2)
    weights, gradients = ([torch.randn(shape, dtype=torch.float64) for _ in range(2)] for _ in range(2))
    slots = [{name: held + 0.3 for name, held in rule.slots(weight).items()} for weight in weights]
    single = [weight.clone() for weight in weights]
    kept = [{name: held.clone() for name, held in one.items()} for one in slots]
    rule.update(weights, gradients, {name: [one[name] for one in slots] for name in slots[0]}, pace)
    for weight, gradient, one in zip(single, gradients, kept, strict=True):
        adafactor(weight, gradient, one, pace, rule)
    torch.testing.assert_close(weights, single, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(slots, kept, rtol=1e-13, atol=1e-14)


def test_of_a_matrix_it_keeps_a_row_and_a_column(toy):
    state = Adafactor().build(toy(torch.float32)).state_dict()
    assert state["blocks.0.weight.row"].shape == (6, 1)
    assert state["blocks.0.weight.column"].shape == (1, 4)
    assert state["gain.square"].shape == (7,)


def test_a_run_goes_on_bit_for_bit_from_its_state(toy, resumed):
    straight, again = resumed(Adafactor(), lambda: toy(torch.float32))
    assert all(torch.equal(one, other) for one, other in zip(straight.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(("field", "value"), [("decay_rate", 0.5), ("clip", 0.0), ("rate", -1.0)])
def test_impossible_values_are_refused(field, value):
    with pytest.raises(BadInput, match=f"Adafactor.{field}"):
        Adafactor(**{field: value})
