from __future__ import annotations

import math

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.lab.compare import norms
from cutaway.lab.compare.folder import Folder, measured
from cutaway.lab.compare.kinds import VALUES
from cutaway.lab.compare.norms import PARTS, Deep, NormComparison, final_loss, key, normed, unigram
from cutaway.lab.compare.training import Setting, Text, parameters
from cutaway.nn.batch_norm import BatchNormModule
from cutaway.train.fit import Step

FEW = Deep(depths=(1, 3), dim=16, heads=2, length=16, rows=2, steps=2)


def test_norms_stand_where_the_name_says_and_weights_are_equal():
    comparison, target = NormComparison(), parameters(Setting().usual(84))
    for part in PARTS:
        model = comparison._model(part, 84)
        block = model.blocks[0]
        placed = (block.before is not None, block.outside is not None, model.norm is not None)
        expected = {"pre": (True, False, True), "post": (False, True, False)}.get(part[:4].rstrip("-"), (False,) * 3)
        assert placed == expected, part
        assert abs(sum(one.numel() for one in model.build().parameters()) - target) <= 0.01 * target
    norms = [part for part in comparison._model("pre-batch", 84).build().modules() if isinstance(part, BatchNormModule)]
    assert len(norms) == 2 * 3 + 1


def test_frequencies_by_hand():
    # Half of one, a quarter each of two: 1/2 ln 2 + 2 x 1/4 ln 4.
    assert unigram(torch.tensor([0, 0, 1, 2]), 5) == pytest.approx(1.5 * math.log(2), abs=1e-12)


def test_where_training_breaks_is_the_first_that_does_not_learn():
    comparison = NormComparison(parts=("pre-rms", "none"), deep=Deep(depths=(4, 8, 16)))

    def told(*losses):
        return {
            key("none", depth): {"loss": one, "frequencies": 3.3}
            for depth, one in zip((4, 8, 16), losses, strict=False)
        }

    assert comparison.breaks("none", told(2.0, 3.3, 2.0)) == "at 8"
    assert comparison.breaks("none", told(2.0, 3.25, 2.0)) == "at 8", "so near, it has learned nothing"
    assert comparison.breaks("none", told(2.0, 2.5, None)) == "at 16", "what is no number has broken"
    assert comparison.breaks("none", told(2.0, 2.5, 3.0)) == "not up to 16"
    assert comparison.breaks("none", told(2.0)) == "–"
    _, deep = comparison.tables(told(2.0, None))
    assert deep.rows[1] == ("none", "at 8", "2.000", "no number", "–") and "3.300" in deep.note


@pytest.mark.parametrize(("losses", "told"), [((2.0, math.inf, 1.0), math.nan), ((3.0, 2.0, 1.0), 1.0)])
def test_a_training_that_is_no_number_is_seen(moment, monkeypatch, losses, told):
    steps = (Step(index=at, loss=loss, norm=1.0, count=1, tokens=1, metrics={}) for at, loss in enumerate(losses, 1))
    monkeypatch.setattr(norms, "fit", lambda *told, **more: steps)
    text = Text.read(moment.corpus, 16)
    found = final_loss(FEW.model("none", 1, text.vocab), text, FEW.setting, 0)
    assert found == told or (math.isnan(found) and math.isnan(told))


def test_normed_changes_nothing_else():
    model = Setting().usual(84)
    assert normed(model, "pre-rms") == model


def test_from_value_to_page(moment, tmp_path):
    comparison = NormComparison(parts=("pre-batch", "post-layer", "none"), setting=moment, deep=FEW)
    assert from_plain(to_plain(comparison), VALUES) == comparison
    found = {cell.key: figures for cell, figures, _ in measured(comparison, Folder.begin(tmp_path / "run", comparison))}
    assert len(found) == 3 + 3 * 2 and found["none, 3 blocks"]["depth"] == 3
    losses, deep = comparison.tables(found)
    assert len(losses.rows) == len(deep.rows) == 3 and deep.columns[2:] == ("1 blocks", "3 blocks")
    page = (tmp_path / "run" / "page.html").read_text(encoding="utf-8")
    assert "http" not in page and "post-layer" in page and comparison.page({})


@pytest.mark.parametrize("depths", [(8, 4), (4, 4), (0, 4)])
def test_depths_grow(depths):
    with pytest.raises(BadInput, match=r"Deep\.depths"):
        Deep(depths=depths)
