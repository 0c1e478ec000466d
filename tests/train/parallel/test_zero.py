"""ZeRO's stages make the same steps as one process; each holds and sends what the paper says."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from cutaway.base.errors import BadInput
from cutaway.train.optimisers.adam import Adam
from cutaway.train.optimisers.descent import Pace
from cutaway.train.parallel.zero import Zero

RULE = Adam(rate=0.05, decay=0.1)
NUMBERS, STEPS = 12, 5


def start() -> torch.Tensor:
    return torch.linspace(-1, 1, NUMBERS, dtype=torch.float64)


def loss_of(place: int):
    generator = torch.Generator().manual_seed(place)
    matrix = torch.randn(6, NUMBERS, generator=generator, dtype=torch.float64)
    return lambda weights: ((matrix @ weights).tanh() - 0.3).square().sum()


def work(fleet, folder):
    results = {}
    for stage in range(4):
        zero = Zero(start(), RULE, stage)
        loss = loss_of(dist.get_rank())
        for _ in range(STEPS):
            zero.step(loss)
        sent = zero.ring.sent / STEPS
        results[str(stage)] = {"weights": zero.whole(), "held": zero.held(), "sent": sent}
    return results


def alone(count: int) -> torch.Tensor:
    weights = start()
    slots = {name: [slot] for name, slot in RULE.slots(weights).items()}
    for step in range(1, STEPS + 1):
        leaf = weights.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(sum(loss_of(place)(leaf) for place in range(count)), leaf)
        RULE.update([weights], [gradient], slots, Pace(count=step, rate=RULE.rate, decay=RULE.decay))
    return weights


def check(results) -> None:
    count = len(results)
    one, part = alone(count), NUMBERS // count
    ring = (count - 1) / count * NUMBERS * 8
    held = {  # weights, gradients, Adam's two means
        "0": ((NUMBERS, NUMBERS, 2 * NUMBERS), 2),
        "1": ((NUMBERS, NUMBERS, 2 * part), 3),
        "2": ((NUMBERS, part, 2 * part), 2),
        "3": ((part, part, 2 * part), 3),
    }
    for result in results:
        for stage, (numbers, times) in held.items():
            # Sums in another order, in float64.
            torch.testing.assert_close(result[stage]["weights"], one, rtol=1e-12, atol=1e-12)
            assert tuple(result[stage]["held"].values()) == numbers, stage
            assert result[stage]["sent"] == times * ring, stage


def test_two_processes(processes):
    check(processes(__file__, work, data=2))


@pytest.mark.proof
def test_four_processes(processes):
    check(processes(__file__, work, data=4))


def test_there_are_four_stages():
    with pytest.raises(BadInput, match=r"Zero\.stage"):
        Zero(start(), RULE, 4)
