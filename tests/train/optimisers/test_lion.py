"""Lion against its equations, one weight at a time, and against what they say of every step."""

from __future__ import annotations

import torch

from cutaway.train.optimisers.descent import Pace
from cutaway.train.optimisers.lion import Lion, lion


def test_it_steps_as_the_equations_read(toy, walk, near):
    ours, theirs = toy(torch.float64), toy(torch.float64)
    walk(ours, Lion(rate=0.02, betas=(0.8, 0.95), decay=0.3).build(ours), 12)

    class OneByOne:
        def __init__(self):
            self.means = [torch.zeros_like(weight) for weight in theirs.parameters()]

        @torch.no_grad()
        def step(self):
            for (name, weight), mean in zip(theirs.named_parameters(), self.means, strict=True):
                if weight.grad is not None:
                    decay = 0.3 if name.endswith(".weight") else 0.0
                    lion(weight, weight.grad, mean, Pace(count=1, rate=0.02, decay=decay), (0.8, 0.95))

    walk(theirs, OneByOne(), 12)
    near(ours, theirs, 1e-13)


def test_every_number_moves_by_the_rate(toy, walk):
    module = toy(torch.float64)
    optimiser = Lion(rate=0.01, decay=0.0).build(module)
    for start in range(3):
        before = [weight.detach().clone() for weight in module.parameters()]
        walk(module, optimiser, 1, start=start, missing=False)
        for weight, old in zip(module.parameters(), before, strict=True):
            torch.testing.assert_close((weight.detach() - old).abs(), torch.full_like(old, 0.01))


def test_a_run_goes_on_bit_for_bit_from_its_state(toy, resumed):
    straight, again = resumed(Lion(), lambda: toy(torch.float32))
    assert all(torch.equal(one, other) for one, other in zip(straight.parameters(), again.parameters(), strict=True))
