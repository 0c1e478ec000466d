from __future__ import annotations

import pytest
import torch

from cutaway.infer.decoding import Decoding
from cutaway.infer.sampler import candidates, penalise
from cutaway.lab.checks.sampler import distribution

LOGITS = [1.3, -0.4, 2.2, 0.1, -3.0, 1.9]


@pytest.mark.parametrize(
    "told",
    [{}, {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.2}, {"top_k": 4, "top_p": 0.8, "min_p": 0.1, "temperature": 2.0}],
)
def test_it_is_what_our_sampler_draws_from(told):
    decoding = Decoding(**{"temperature": 0.9, "repetition_penalty": 1.3, **told})
    probabilities, ids = candidates(penalise(torch.tensor(LOGITS), [0, 1, 1], 1.3), decoding)
    ours = torch.zeros(6).index_put((ids,), probabilities)
    assert distribution(LOGITS, decoding, [0, 1, 1]) == pytest.approx(ours.tolist(), abs=1e-6)


def test_greedy_is_the_likeliest():
    assert distribution(LOGITS, Decoding()) == [0, 0, 1, 0, 0, 0]
