from __future__ import annotations

import random
from collections import Counter

import torch

from cutaway.infer.acceptance import drawn, judged
from cutaway.infer.language import Language
from cutaway.lab.cards.speculative_lossless import chances, likely

from .test_early_exit_sweep import small


def test_chi_square_tells_what_was_drawn_from_p():
    p_V, q_V = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.3, 0.3, 0.4, 0.0])
    draw = random.Random(0)
    guesses = [drawn(q_V, draw) for _ in range(1500)]
    kept = [judged(guess, p_V, q_V, draw) for guess in guesses]
    assert likely(Counter(kept), p_V) > 0.01 and likely(Counter(guesses), p_V) < 1e-9
    assert likely(Counter({3: 1, 0: 5}), p_V) == 0.0
    assert likely(Counter({0: 50, 1: 30, 2: 20}), p_V) > 1.0 - 1e-9


def test_p_and_q_are_those_of_all_blocks_and_of_the_first(monkeypatch):
    language: Language = small()
    monkeypatch.setattr(language, "encode", lambda text: [1, 2, 3])
    p_V, q_V = chances(language, blocks=1)
    assert abs(float(p_V.sum()) - 1) < 1e-5
    assert not torch.allclose(p_V, q_V) and int((q_V > 0).sum()) <= 12
