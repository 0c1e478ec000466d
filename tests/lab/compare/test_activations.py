from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.lab.compare.activations import FEEDS, ActivationComparison
from cutaway.lab.compare.folder import Folder, measured
from cutaway.lab.compare.kinds import VALUES
from cutaway.lab.compare.training import Setting, parameters
from cutaway.nn.feedforward import Gated


def test_all_have_equal_weights_and_the_feed_they_are_called_by():
    comparison = ActivationComparison()
    target = parameters(comparison.setting.usual(84))
    hidden = {}
    for entrant in comparison.entrants():
        model = entrant.make(84)
        assert abs(parameters(model) - target) <= 0.01 * target
        hidden[entrant.name] = (type(model.blocks[0].feed), model.blocks[0].feed.hidden)
        assert model.blocks[0].feed == FEEDS[entrant.name](hidden[entrant.name][1])
    assert hidden["swiglu"][0] is Gated and hidden["relu"][1] == pytest.approx(1.5 * hidden["swiglu"][1], rel=0.01)


def test_from_value_to_page(moment, tmp_path):
    comparison = ActivationComparison(parts=("relu", "geglu"), setting=moment)
    assert from_plain(to_plain(comparison), VALUES) == comparison
    found = {cell.key: figures for cell, figures, _ in measured(comparison, Folder.begin(tmp_path / "run", comparison))}
    assert list(found) == ["relu, seed 0", "geglu, seed 0"]
    (table,) = comparison.tables(found)
    assert [row[0] for row in table.rows] == ["relu", "geglu"]
    page = (tmp_path / "run" / "page.html").read_text(encoding="utf-8")
    assert "geglu" in page and "http" not in page and comparison.page({})


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(BadInput, match='did you mean "geglu"'):
        ActivationComparison(parts=("gegluu",), setting=Setting())
