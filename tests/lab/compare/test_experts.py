from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.lab.compare.experts import ALL, ExpertComparison, active, load_grid
from cutaway.lab.compare.folder import Folder, measured
from cutaway.lab.compare.kinds import VALUES
from cutaway.lab.compare.training import Setting, parameters


def test_one_token_uses_as_many_weights_in_all_of_them():
    target = parameters(Setting().usual(84))
    comparison = ExpertComparison(parts=ALL)
    for part in ALL:
        model = comparison._model(part, 84)
        assert abs(active(model) - target) <= 0.01 * target
        if part != "dense":
            feed = model.blocks[0].feed
            # By hand: six of eight experts of three matrices lie idle in each of three layers.
            assert parameters(model) - active(model) == 3 * 6 * 3 * 96 * feed.expert.hidden


def test_from_value_to_page(moment, tmp_path):
    comparison = ExpertComparison(parts=("dense", "softmax+loss", "sigmoid+bias"), count=4, setting=moment)
    assert from_plain(to_plain(comparison), VALUES) == comparison
    found = {cell.key: figures for cell, figures, _ in measured(comparison, Folder.begin(tmp_path / "run", comparison))}
    assert "shares" not in found["dense, seed 0"]
    mixed = found["sigmoid+bias, seed 0"]
    assert [len(layer) for layer in mixed["shares"]] == [4, 4]
    assert all(sum(layer) == pytest.approx(1.0, abs=1e-5) for layer in mixed["shares"])  # float32 shares
    busiest = [4 * max(layer) - 1 for layer in mixed["shares"]]
    assert mixed["max_violation"] == pytest.approx(sum(busiest) / 2, abs=1e-5)
    assert mixed["starved"] == sum(share < 0.1 / 4 for layer in mixed["shares"] for share in layer)
    assert 0.0 < mixed["entropy"] <= 1.0 + 1e-6
    (table,) = comparison.tables(found)
    assert table.rows[0][3:] == ("–", "–", "–") and "–" not in table.rows[1]
    page = (tmp_path / "run" / "page.html").read_text(encoding="utf-8")
    assert page.count("load of each expert") == 2 and "http" not in page and comparison.page({})


def test_the_fullest_stand_first():
    drawn = load_grid([[0.1, 0.6, 0.3]])
    assert drawn.index(">60.0<") < drawn.index(">30.0<") < drawn.index(">10.0<")


@pytest.mark.parametrize(("change", "said"), [({"top_k": 9}, "top_k"), ({"parts": ("softmax+bias",)}, "nothing here")])
def test_what_cannot_be_is_refused(change, said):
    with pytest.raises(BadInput, match=said):
        ExpertComparison(**change)
