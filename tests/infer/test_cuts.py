"""Each cut leaves what transformers leaves, and follows its paper where one can count by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import EpsilonLogitsWarper, EtaLogitsWarper, TypicalLogitsWarper

from cutaway.infer.cuts import above, above_entropy, entropy, typical

HALVES = torch.tensor([0.5, 0.25, 0.125, 0.125])  # entropy 1.75 ln 2; surprises of 1, 2, 3 and 3 times ln 2


@settings(max_examples=60, deadline=None)
@given(
    vocab=st.sampled_from([2, 30, 400]),
    spread=st.sampled_from([0.0, 0.5, 3.0, 30.0]),
    bound=st.floats(0.01, 0.95),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize(
    ("ours", "theirs"), [(typical, TypicalLogitsWarper), (above, EpsilonLogitsWarper), (above_entropy, EtaLogitsWarper)]
)
def test_what_is_kept_is_what_transformers_keeps(ours, theirs, vocab, spread, bound, seed):
    logits_V = torch.randn(vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread
    left = theirs(bound)(None, logits_V[None].clone())[0] > -torch.inf
    mine = ours(logits_V.softmax(0), bound)
    if spread:  # in a flat distribution all stand at the bound, and rounding says who is beyond it
        assert int((mine != left).sum()) <= 1  # and one candidate may stand at it otherwise
    assert mine[logits_V.argmax()] or (ours is typical and mine.any())


def test_entropy_is_counted_by_hand():
    assert float(entropy(HALVES)) == pytest.approx(1.75 * math.log(2))
    assert float(entropy(torch.tensor([1.0, 0.0]))) == 0.0


@pytest.mark.parametrize(
    ("mass", "kept"),
    # Nearest to 1.75 are 2 (0.25 away), then 1 (0.75), then both of 3.
    [(0.2, [1]), (0.3, [0, 1]), (0.75, [0, 1]), (0.76, [0, 1, 2, 3])],
)
def test_typical_takes_the_nearest_to_the_mean_surprise(mass, kept):
    assert typical(HALVES, mass).nonzero().flatten().tolist() == kept


def test_the_likeliest_may_be_untypical():
    assert not typical(HALVES, 0.2)[0]


def test_epsilon_and_eta_by_hand():
    assert above(HALVES, 0.2).tolist() == [True, True, False, False]
    assert above(HALVES, 0.9).tolist() == [True, False, False, False]
    # sqrt(0.16) exp(-1.75 ln 2) = 0.4 * 0.297 = 0.119, below both 0.16 and 0.125
    assert above_entropy(HALVES, 0.16).all()
    # sqrt(0.2) * 0.297 = 0.133
    assert above_entropy(HALVES, 0.2).tolist() == [True, True, False, False]
