"""The card's runs are what their names say, repeatable, and leave the caller's random numbers alone."""

from __future__ import annotations

import torch

from cutaway.lab.cards.warm_up import final_loss, model


def test_norms_stand_where_they_should():
    before, outside = model("before").spec, model("outside").spec
    assert before.blocks[0].before and not before.blocks[0].outside and before.norm
    assert outside.blocks[0].outside and not outside.blocks[0].before and not outside.norm


def test_a_run_repeats_and_draws_nothing_from_the_caller():
    state = torch.random.get_rng_state()
    first = final_loss("before", 0, steps=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == final_loss("before", 0, steps=2) != final_loss("before", 0, steps=2, seed=1)
