from __future__ import annotations

import json
import random

import numpy
import torch

from cutaway.base.seeds import seed_all
from cutaway.train.randomness import restore, snapshot
from cutaway.train.state import join, split


def draw() -> list[float]:
    # A Gaussian leaves a spare in Python's and numpy's generators, which has to come back as well.
    return [
        random.random(),
        random.gauss(0, 1),
        float(numpy.random.rand()),
        float(numpy.random.randn()),
        *torch.rand(3).tolist(),
    ]


def test_what_is_drawn_next_comes_back():
    seed_all(3)
    draw()
    tensors, plain = split(snapshot())
    first = draw()
    assert draw() != first
    restore(join(tensors, json.loads(json.dumps(plain))))
    assert draw() == first
