from __future__ import annotations

import pytest
import torch

from cutaway.infer.language import Language
from cutaway.lab.cards.alibi_extrapolation import text
from cutaway.lab.cards.early_exit_sweep import BLOCKS, halfway, losses, saved, trained
from cutaway.lab.exits import sweep


def small() -> Language:
    """Trained by one step."""
    return trained(every=False, steps=1)


def test_all_blocks_are_taught_or_the_last_alone():
    """The mean over blocks, by the sweep, which asks the same places."""
    module = small().module
    ids_BT = text(1, 12, torch.Generator().manual_seed(0))
    fixed, _ = sweep(Language(module), ids_BT[0].tolist())
    every = sum(one.loss for one in fixed) / BLOCKS
    assert float(losses(module, ids_BT, every=True).detach()) == pytest.approx(every, abs=1e-5)
    assert float(losses(module, ids_BT, every=False).detach()) == pytest.approx(fixed[-1].loss, abs=1e-5)
    assert abs(every - fixed[-1].loss) > 1e-3


def test_a_step_of_each_runs_and_gives_back_the_generator():
    before = torch.get_rng_state()
    language = trained(every=True, steps=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0.0 <= halfway(language, rows=1) <= 1.0 and 1.0 <= saved(language, rows=1) <= BLOCKS / 2
