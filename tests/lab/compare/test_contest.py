"""A contest trains what it says, once for each seed, and tells mean and spread."""

from __future__ import annotations

import math

import pytest

from cutaway.base.errors import BadInput
from cutaway.lab.compare import contest
from cutaway.lab.compare.contest import Entrant, key, spread
from cutaway.lab.compare.training import Setting

SETTING = Setting(dim=16, layers=1, heads=2, length=16, rows=4, steps=4, windows=8, seeds=2)


def measured_of(**losses):
    return {
        key(name, seed): {"loss": loss, "parameters": 1000, "curve": [[64, 3.0], [128, loss]]}
        for name, every in losses.items()
        for seed, loss in enumerate(every)
    }


def test_every_entrant_with_every_seed(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be. " * 100, encoding="utf-8")
    setting = Setting(**{**vars(SETTING), "corpus": str(text)})
    scored = []

    def score(trained, text):
        scored.append(trained.loss)
        return {"further": text.vocab}

    cells = contest.cells([Entrant(name="one", make=setting.usual, score=score)], setting, 5)
    assert [cell.key for cell in cells] == ["one, seed 5", "one, seed 6"] and all(cell.seconds > 0 for cell in cells)
    first, second = (cell.measure() for cell in cells)
    assert first["loss"] == scored[0] != second["loss"] == scored[1]
    assert first["tokens"] == 4 * 4 * 16 and first["further"] == 8
    usual = setting.usual(8)
    assert first["parameters"] == sum(one.numel() for one in usual.build().parameters())


def test_the_table_has_mean_and_spread_by_hand_and_says_what_diverged():
    table = contest.table(("a", "b", "c"), SETTING, 0, measured_of(a=(1.0, 2.0), b=(1.5, None)), "Title")
    assert table.rows[0] == ("a", "1k", f"1.500 ± {math.sqrt(0.5):.3f}", "1.000 2.000")
    assert table.rows[1][2] == "1.500 (1 diverged)" and table.rows[2][1:] == ("–", "–", "–")
    assert spread([]) == "–" and spread([2.0]) == "2.000"


def test_the_page_draws_every_seed_and_the_first_ones_way():
    sections = contest.sections(("a", "b"), SETTING, 0, measured_of(a=(1.0, 2.0), b=(1.5, 1.6)))
    drawn = "".join(section.body for section in sections)
    assert drawn.count('class="cell"') == 4 and drawn.count("<polyline") == 2 and "http" not in drawn
    assert contest.sections(("a",), SETTING, 0, {}), "nothing measured yet is no trouble"


@pytest.mark.parametrize(
    ("parts", "seed", "said"),
    [((), 0, "at least one"), (("a", "a"), 0, "none twice"), (("ab",), 0, "nothing here"), (("a",), -1, "seed")],
)
def test_what_cannot_be_is_refused(parts, seed, said):
    with pytest.raises(BadInput, match=said):
        contest.checked(parts, ("a", "b"), seed)
