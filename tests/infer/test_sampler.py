from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from cutaway.infer.decoding import Decoding
from cutaway.infer.sampler import candidates, choose, penalise, trimmed


def whole(logits_V: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Our candidates as a distribution over the vocabulary."""
    probabilities_C, ids_C = candidates(logits_V, decoding)
    return torch.zeros_like(logits_V).index_put((ids_C,), probabilities_C)


@settings(max_examples=60, deadline=None)
@given(
    vocab=st.sampled_from([3, 40, 500]),
    spread=st.sampled_from([0.1, 1.0, 8.0]),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.none() | st.integers(1, 600),
    top_p=st.none() | st.floats(0.05, 0.999),
    min_p=st.none() | st.floats(0.0, 0.9),
    seed=st.integers(0, 1000),
)
def test_the_candidates_are_those_of_transformers(vocab, spread, temperature, top_k, top_p, min_p, seed):
    logits_V = torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * spread
    decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    theirs = TemperatureLogitsWarper(temperature)(None, logits_V[None].clone())
    if top_k is not None:
        theirs = TopKLogitsWarper(top_k)(None, theirs)
    if top_p is not None:
        theirs = TopPLogitsWarper(top_p)(None, theirs)
    if min_p is not None:
        theirs = MinPLogitsWarper(min_p)(None, theirs)
    ours, theirs = whole(logits_V, decoding), theirs[0].softmax(0)
    # A token at the very edge of the nucleus may fall either way by rounding of a float32 sum.
    different = int(((ours > 0) != (theirs > 0)).sum())
    assert different <= 1
    if different == 0:
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_the_repetition_penalty_is_that_of_transformers(penalty):
    logits_V = torch.randn(20, generator=torch.Generator().manual_seed(0))
    seen = [3, 5, 5, 19]
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([seen]), logits_V[None].clone())[0]
    assert torch.equal(penalise(logits_V, seen, penalty), theirs)


@settings(max_examples=60, deadline=None)
@given(
    vocab=st.sampled_from([3, 40, 300]),
    temperature=st.sampled_from([0.5, 1.0, 2.5]),
    top_k=st.none() | st.integers(1, 60),
    typical_p=st.none() | st.floats(0.05, 0.99),
    epsilon=st.none() | st.floats(0.001, 0.3),
    eta=st.none() | st.floats(0.001, 0.3),
    seed=st.integers(0, 1000),
)
def test_cuts_one_after_the_other_are_those_of_transformers(vocab, temperature, top_k, typical_p, epsilon, eta, seed):
    logits_V = torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * 2
    decoding = Decoding(temperature=temperature, top_k=top_k, typical_p=typical_p, epsilon=epsilon, eta=eta)
    warpers = [TemperatureLogitsWarper(temperature)]
    for warper, bound in (
        (TopKLogitsWarper, top_k),
        (TypicalLogitsWarper, typical_p),
        (EpsilonLogitsWarper, epsilon),
        (EtaLogitsWarper, eta),
    ):
        if bound is not None:
            warpers.append(warper(bound))
    theirs = logits_V[None].clone()
    for warper in warpers:
        theirs = warper(None, theirs)
    probabilities_C, ids_C = trimmed(*candidates(logits_V, decoding), decoding)
    ours, theirs = torch.zeros(vocab).index_put((ids_C,), probabilities_C), theirs[0].softmax(0)
    # A token at the very edge may fall either way by rounding, and then moves the edges that come after it.
    if torch.equal(ours > 0, theirs > 0):
        assert torch.allclose(ours, theirs, atol=1e-5)
    else:
        assert float((ours - theirs).abs().sum()) < 2 * float(logits_V.div(temperature).softmax(0).max())


@pytest.mark.parametrize(
    "options", [{}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}, {"typical_p": 0.7}, {"epsilon": 0.1}, {"eta": 0.2}]
)
def test_draws_follow_the_distribution(options):
    """Chi-square over 8 tokens: 4,000 draws; the bound is the 99.99% point for 7 degrees of freedom."""
    decoding = Decoding(temperature=1.3, **options)
    logits_V = torch.randn(8, generator=torch.Generator().manual_seed(1))
    kept_C, ids_C = trimmed(*candidates(logits_V, decoding), decoding)
    expected = torch.zeros(8).index_put((ids_C,), kept_C)
    draw = random.Random(0)
    counts = Counter(choose(logits_V, decoding, draw) for _ in range(4000))
    assert all(expected[token] > 0 for token in counts)
    statistic = sum((counts[t] - 4000 * float(p)) ** 2 / (4000 * float(p)) for t, p in enumerate(expected) if p > 0)
    assert statistic < 29.9


def test_greedy_takes_the_likeliest_and_a_penalty_moves_it():
    logits_V = torch.tensor([1.0, 3.0, 2.9])
    draw = random.Random(0)
    assert choose(logits_V, Decoding(), draw) == 1
    assert choose(logits_V, Decoding(repetition_penalty=1.5), draw, seen=[1]) == 2


def test_a_seed_repeats_and_another_differs():
    logits_V = torch.zeros(1000)
    decoding = Decoding(temperature=1.0)
    drawn = [[choose(logits_V, decoding, draw) for _ in range(8)] for draw in map(random.Random, (1, 1, 2))]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("temperature", [1e-6, 1e-38, 1e-45, 1e-320])
@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.5}])
def test_a_temperature_near_zero_is_greedy(temperature, options):
    decoding = Decoding(temperature=temperature, **options)
    for logits in ([1.0, 3.0, 2.9], [-90.0, -80.0, -85.0], [50.0, 500.0, 0.0]):
        assert choose(torch.tensor(logits), decoding, random.Random(0)) == 1
