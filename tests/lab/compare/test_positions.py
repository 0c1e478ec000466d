from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.data.batch import IGNORE
from cutaway.lab.compare.folder import Folder, measured
from cutaway.lab.compare.kinds import VALUES
from cutaway.lab.compare.positions import SCALINGS, PositionComparison, last_tokens, longer
from cutaway.lab.compare.training import Setting, Text, built, parameters
from cutaway.nn.context import Context
from cutaway.nn.positions import Learned

SMALL = PositionComparison(beyond=(2, 4))


def test_all_have_equal_weights():
    target = parameters(SMALL.setting.usual(84))
    for entrant in SMALL.entrants():
        model = entrant.make(84)
        assert abs(parameters(model) - target) <= 0.01 * target
        mixer = model.blocks[0].mixer
        placed = (mixer.rope is not None) + (mixer.alibi is not None) + (model.positions is not None)
        assert placed == (entrant.name != "none"), "one way each, or none"


def test_the_same_tokens_are_scored_at_every_length(moment):
    text = Text.read(moment.corpus, 64)
    scored = []
    for length in (16, 32, 64):
        batches = list(last_tokens(text.held(3, 64), length, 16))
        assert all(set(batch.lengths) == {length} for batch in batches)
        targets_N = torch.cat([batch.targets_N for batch in batches])
        scored.append(targets_N[targets_N != IGNORE].tolist())
        ids_BT = batches[0].ids_N.view(-1, length)
        assert torch.equal(ids_BT[0, 1:], text.validation[64 - length + 1 : 64])
    assert scored[0] == scored[1] == scored[2] and len(scored[0]) == 3 * 16


def test_a_longer_model_is_the_same_within_the_trained_length():
    setting = Setting(dim=16, layers=1, heads=2, length=8)
    model = setting.decoder(10, setting.mixer(rope=None), setting.usual(10).blocks[0].feed, positions=Learned(length=8))
    module = built(model, 0).eval()
    grown, ids_N = longer(module, 4), torch.arange(8)
    assert grown.spec.positions.length == 32 and longer(module, 1) is module
    with torch.no_grad():
        before, after = (one(ids_N, Context.of((8,)))[0] for one in (module, grown))
        grown(torch.arange(32) % 10, Context.of((32,)))
    assert torch.equal(before, after)


def test_scalings_ask_for_as_much_as_the_length_is_longer():
    linear, ntk, yarn = (scaling(4, 128) for scaling in SCALINGS.values())
    assert linear.factor == yarn.factor == 4.0 and yarn.original_length == ntk.original_length == 128
    plain = 10000.0 ** -(torch.arange(12) / 12)
    # Dynamic NTK with factor 1 at 4 times the length: the base grows by 4^(W / (W - 2)).
    grown = (10000.0 * 4 ** (24 / 22)) ** -(torch.arange(12) / 12)
    assert torch.allclose(ntk.frequencies(10000.0, 24, None, 512), grown, rtol=1e-5)  # float32 powers
    assert torch.allclose(linear.frequencies(10000.0, 24), plain / 4, rtol=1e-5)


def test_from_value_to_page(moment, tmp_path):
    comparison = replace(SMALL, setting=moment, parts=("learned", "rope", "alibi"))
    assert from_plain(to_plain(comparison), VALUES) == comparison
    found = {cell.key: figures for cell, figures, _ in measured(comparison, Folder.begin(tmp_path / "run", comparison))}
    beyond, within = comparison.tables(found)
    assert [row[0] for row in beyond.rows] == ["learned", "rope", *SCALINGS, "alibi"]
    assert beyond.columns == ("positions", "16 tokens", "32 tokens", "64 tokens") and len(within.rows) == 3
    rope = {row[0]: row[1:] for row in beyond.rows}
    assert rope["rope"][0] == rope["rope, linear"][0] == rope["rope, YaRN"][0], (
        "at the trained length nothing is scaled"
    )
    page = (tmp_path / "run" / "page.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 6 + 3 and "http" not in page and comparison.page({})


@pytest.mark.parametrize("beyond", [(1,), (2, 2)])
def test_what_cannot_be_is_refused(beyond):
    with pytest.raises(BadInput, match="beyond"):
        replace(SMALL, beyond=beyond)
