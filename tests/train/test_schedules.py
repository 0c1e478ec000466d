"""Schedules at the places where they turn, against torch's and the papers'; an optimiser that follows one."""

from __future__ import annotations

import math

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.schedules import Constant, Cosine, InverseSquareRoot, Linear, Scheduled, WarmupStableDecay

ALL = [
    Constant(warmup=10),
    Cosine(steps=100, warmup=10, floor=0.1),
    Linear(steps=100, warmup=10),
    InverseSquareRoot(warmup=10),
    WarmupStableDecay(steps=100, warmup=10, decay=20),
]


@pytest.mark.parametrize("schedule", ALL, ids=lambda schedule: type(schedule).__name__)
def test_the_warm_up_is_a_straight_line_to_one_and_no_factor_is_larger(schedule):
    assert [schedule(index) for index in (1, 5, 10)] == pytest.approx([0.1, 0.5, 1.0])
    assert all(0.0 <= schedule(index) <= 1.0 for index in range(1, 200))


def test_the_ends():
    assert Constant()(1) == Constant()(10**9) == 1.0
    assert Cosine(steps=100, warmup=10, floor=0.1)(55) == pytest.approx(0.55)  # half way, half the height
    assert [Cosine(steps=100, warmup=10, floor=0.1)(index) for index in (100, 500)] == pytest.approx([0.1, 0.1])
    assert [Linear(steps=100, warmup=10)(index) for index in (55, 100, 101)] == pytest.approx([0.5, 0.0, 0.0])
    down = WarmupStableDecay(steps=100, warmup=10, decay=20, floor=0.2)
    assert [down(index) for index in (80, 90, 100, 200)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert WarmupStableDecay(steps=100, decay=20, shape="root")(85) == pytest.approx(0.5)


def test_cosine_is_torchs():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=40, eta_min=0.1)
    ours = Cosine(steps=40, floor=0.1)
    for index in range(1, 41):
        optimiser.step()
        theirs.step()
        assert ours(index) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)


def test_the_papers_inverse_square_root():
    schedule = InverseSquareRoot.of_paper(512, 4000)
    for index in (1, 100, 4000, 4001, 100_000):
        assert schedule(index) == pytest.approx(512**-0.5 * min(index**-0.5, index * 4000**-1.5))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Cosine(steps=10, warmup=10), "Cosine.steps"),
        (lambda: Cosine(steps=10, floor=1.5), "Cosine.floor"),
        (lambda: Linear(steps=10, warmup=-1), "Linear.warmup"),
        (lambda: Linear(steps=-3, warmup=-1), "Linear.steps: must be at least 1, is -3"),
        (lambda: InverseSquareRoot(warmup=0), "InverseSquareRoot.warmup"),
        (lambda: WarmupStableDecay(steps=10, warmup=5, decay=6), "WarmupStableDecay.decay"),
        (lambda: WarmupStableDecay(steps=10, decay=0), "WarmupStableDecay.decay"),
    ],
)
def test_impossible_schedules_are_refused(make, field):
    with pytest.raises(BadInput, match=field):
        make()


def steps(module, optimiser, count: int) -> list[float]:
    rates = []
    for _ in range(count):
        module.weight.grad = torch.ones_like(module.weight)
        optimiser.step()
        rates.append(optimiser.rate)
    return rates


def test_an_optimiser_follows_its_schedule_and_goes_on_where_it_stopped():
    schedule = Cosine(steps=20, warmup=4)
    module = torch.nn.Linear(3, 2, bias=False)
    optimiser = Scheduled(AdamW(rate=0.5).build(module), schedule)
    rates = steps(module, optimiser, 7)
    assert rates == pytest.approx([0.5 * schedule(index) for index in range(1, 8)])
    later = Scheduled(AdamW(rate=0.5).build(module), schedule)
    later.load_state_dict(optimiser.state_dict())
    assert steps(module, later, 3) == pytest.approx([0.5 * schedule(index) for index in range(8, 11)])


def test_a_step_not_made_is_not_counted_and_a_scale_multiplies_the_schedule():
    module = torch.nn.Linear(3, 2, bias=False)
    optimiser = Scheduled(AdamW(rate=1.0).build(module), Linear(steps=10))
    optimiser.zero_grad()
    optimiser.scale(0.5)
    assert steps(module, optimiser, 2) == pytest.approx([0.45, 0.4])


def test_a_state_without_the_count_is_refused():
    module = torch.nn.Linear(3, 2)
    inner = AdamW().build(module)
    with pytest.raises(BadInput, match=r"schedule\.count: is missing"):
        Scheduled(inner, Constant()).load_state_dict(inner.state_dict())


def test_factors_are_finite_far_out():
    assert all(math.isfinite(schedule(10**12)) for schedule in ALL)
