"""The card's runs are what their names say, repeatable, and leave the caller's random numbers alone."""

from __future__ import annotations

import pytest
import torch

from cutaway.lab.cards.moe_balance import (
    EXPERTS,
    SIGMOID,
    SOFTMAX,
    TOP_K,
    batches,
    model,
    starved,
    trained_load,
)


def test_rows_are_of_four_languages_with_a_tenth_of_noise():
    following: dict[int, dict[int, int]] = {}
    for batch in batches(40, seed=3):
        for word, successor in zip(batch.ids_N.tolist(), batch.targets_N.tolist(), strict=True):
            following.setdefault(word, {})
            following[word][successor] = following[word].get(successor, 0) + 1
    # Of each word the four commonest successors are those of the languages; the rest is noise.
    told = sum(sum(sorted(counts.values())[-4:]) for counts in following.values())
    assert told / (40 * 32 * 16) == pytest.approx(0.91, abs=0.03)
    assert torch.equal(next(batches(1, 5)).ids_N, next(batches(1, 5)).ids_N)


def test_the_routers_are_what_they_are_called():
    assert model(SOFTMAX).blocks[0].feed.router.bias is None
    assert model(SIGMOID).blocks[0].feed.router.bias is not None


@pytest.mark.parametrize(("router", "way"), [(SOFTMAX, "loss"), (SIGMOID, "bias")])
def test_a_run_repeats_and_draws_nothing_from_the_caller(router, way):
    state = torch.random.get_rng_state()
    first = trained_load(router, way, steps=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, trained_load(router, way, steps=3))
    assert float(first.sum()) == 8 * 32 * 16 * TOP_K and len(first) == EXPERTS
    assert not torch.equal(first, trained_load(router, "nothing", steps=3))


def test_starved_is_less_than_a_tenth_of_an_even_share():
    assert starved(torch.tensor([0.0, 9.0, 11.0, 380.0])) == 2
