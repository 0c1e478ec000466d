from __future__ import annotations

import random

import numpy
import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.base.seeds import seed_all


def draw() -> tuple[float, float, float]:
    return random.random(), float(numpy.random.rand()), float(torch.rand(()))


def test_the_same_seed_gives_the_same_draws_everywhere():
    seed_all(7)
    first = draw()
    seed_all(7)
    assert draw() == first
    seed_all(8)
    assert all(here != there for here, there in zip(draw(), first, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "7", True, None])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(BadInput, match="seed"):
        seed_all(seed)


def test_the_limits_are_seeds():
    seed_all(0)
    seed_all(2**32 - 1)
