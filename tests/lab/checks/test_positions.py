"""The checks find every deliberately wrong position."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cutaway.lab.checks.positions import check_frequencies, check_learned, check_sinusoidal
from cutaway.nn.positions import Learned, Rope, Sinusoidal
from cutaway.nn.rope_scaling import DynamicNtk, LinearScaling, Llama3Scaling, Yarn


class Waves(nn.Module):
    def __init__(self, dim, change):
        super().__init__()
        self.right, self.change = Sinusoidal(length=1).build(dim), change

    def forward(self, positions_N):
        return self.change(self.right(positions_N), positions_N)


@pytest.mark.parametrize(
    "change",
    [
        lambda y, p: torch.cat((y[..., 0::2], y[..., 1::2]), -1),
        lambda y, p: y.roll(1, -1),
        lambda y, p: -y,
        lambda y, p: y.float().to(y.dtype) + 1e-5,
        lambda y, p: y * p.ne(0)[:, None],
    ],
    ids=["halves", "cosine first", "negative", "imprecise", "none at position 0"],
)
def test_wrong_waves_are_found(change):
    with pytest.raises(AssertionError):
        check_sinusoidal(lambda dim: Waves(dim, change))


def test_the_layout_of_waves_is_looked_at():
    check_sinusoidal(lambda dim: Waves(dim, lambda y, p: torch.cat((y[..., 0::2], y[..., 1::2]), -1)), False)
    with pytest.raises(AssertionError):
        check_sinusoidal(lambda dim: Waves(dim, lambda y, p: y), False)


class Table(nn.Module):
    def __init__(self, length, dim, pick):
        super().__init__()
        self.weight, self.pick = nn.Parameter(torch.randn(length, dim)), pick

    def forward(self, positions_N):
        return self.pick(self.weight, positions_N)


@pytest.mark.parametrize(
    "pick",
    [
        lambda w, p: w[p],  # -1 counts from the end
        lambda w, p: w[p.clamp(0, 4)],
        lambda w, p: w[p % 5],
        lambda w, p: nn.functional.embedding(p, w).detach() + 0 * w.sum(),
        lambda w, p: nn.functional.embedding((p + 1).clamp(max=4 + (p > 4).any()), w),
    ],
    ids=["negative", "clamped", "wrapped", "no gradient", "off by one"],
)
def test_a_wrong_table_is_found(pick):
    with pytest.raises(AssertionError):
        check_learned(lambda length, dim: Table(length, dim, pick))
    check_learned(lambda length, dim: Learned(length=length).build(dim))


def with_scaling(kind, **changes):
    """Frequencies that are right but for one field of one kind of scaling."""

    def wrong(rope, prompt):
        scaling = replace(rope.scaling, **changes) if isinstance(rope.scaling, kind) else rope.scaling
        return replace(rope, scaling=scaling).frequencies(prompt=prompt)

    return wrong


@pytest.mark.parametrize(
    "wrong",
    [
        lambda rope, prompt: Rope(width=rope.width, theta=rope.theta).frequencies(),
        lambda rope, prompt: rope.frequencies(prompt=prompt) * (1 + 2e-6),
        lambda rope, prompt: rope.frequencies(prompt=prompt).flip(0),
        lambda rope, prompt: rope.frequencies(),
        lambda rope, prompt: replace(rope, theta=10000.0).frequencies(prompt=prompt),
        with_scaling(LinearScaling, factor=4.001),
        with_scaling(DynamicNtk, factor=2.01),
        with_scaling(Llama3Scaling, low_frequency_factor=1.01),
        with_scaling(Yarn, beta_slow=0.9),
        with_scaling(Yarn, truncate=True),
        with_scaling(Yarn, truncate=False),
    ],
)
def test_wrong_frequencies_are_found(wrong):
    with pytest.raises(AssertionError):
        check_frequencies(wrong)
