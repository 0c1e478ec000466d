from __future__ import annotations

import math

import pytest
import torch

from cutaway.base.values import from_plain, to_plain
from cutaway.models.decoder import Decoder
from cutaway.nn.initialisation import ScaledResidual, TruncatedNormal, Xavier
from cutaway.recipes.beginning import begun
from cutaway.recipes.nano import small
from cutaway.recipes.table import VALUES, made


def spec() -> Decoder:
    return small(vocab=300, layers=2, heads=2, dim=64, hidden=176, length=64)


def test_the_seed_alone_decides():
    first, again, other = (begun(spec(), seed, "cpu", ScaledResidual()).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_an_initialisation_is_what_the_model_begins_with():
    plain, scaled = begun(spec(), 1, "cpu", None), begun(spec(), 1, "cpu", ScaledResidual())
    spread = [float(one.blocks[0].feed.down.weight.detach().std()) for one in (plain, scaled)]  # type: ignore[index]
    # 11,264 numbers: their deviation is within a few per cent of that drawn from; 2 blocks add 4 times.
    assert spread == pytest.approx([0.02, 0.02 / math.sqrt(4)], rel=0.05)


@pytest.mark.parametrize(
    ("name", "initialisation"),
    [("gpt2-124m", ScaledResidual()), ("bert-mini", TruncatedNormal()), ("translate", Xavier()), ("nano", None)],
)
def test_recipes_name_that_of_their_papers(name, initialisation):
    recipe = made(name)
    assert recipe.task.initialisation == initialisation  # type: ignore[attr-defined]
    assert from_plain(to_plain(recipe), VALUES) == recipe


def test_it_can_be_changed_from_the_command_line():
    assert made("nano", ["task.initialisation=Xavier"]).task.initialisation == Xavier()  # type: ignore[attr-defined]
