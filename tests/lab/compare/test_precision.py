"""From value to page; a dash where nothing is known; what a file has lost already is said."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.lab.compare import precision
from cutaway.lab.compare.folder import Folder, measured
from cutaway.lab.compare.kinds import VALUES
from cutaway.lab.compare.precision import CACHES, WEIGHTS, PrecisionComparison, key
from cutaway.lab.compare.rounded import scheme_named
from cutaway.ops.blocks.scheme import precision_named

TOLD = {"parameters": 1000, "cache_bytes": 66.0, "write_per_second": 20.0, "read_per_second": 300.0}


def figures(weights: int, perplexity: float, *formats: str) -> dict:
    return {**TOLD, "weight_bytes": weights, "perplexity": perplexity, "formats": formats}


def test_every_name_is_one():
    for name in WEIGHTS[1:]:
        assert scheme_named(name) or precision_named(name)
    assert PrecisionComparison(model="m", text="t").cells()[-1].key == "cache int8"
    assert len(PrecisionComparison(model="m", text="t").cells()) == len(WEIGHTS) + len(CACHES)


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"weights": ("int3",)}, "weights"),
        ({"weights": ("q4_0,gptq",)}, "weights.*int8 and int4"),
        ({"weights": ("int8", "int8")}, "weights"),
        ({"caches": ("int4",)}, "cache"),
        ({"weights": (), "caches": ()}, "weights"),
        ({"length": 1}, "length"),
        ({"passages": 0}, "passages"),
    ],
)
def test_impossible_values_are_refused_when_made(told, field):
    with pytest.raises(BadInput, match=field):
        PrecisionComparison(model="m", text="t", **told)


def test_from_value_to_page(tmp_path, monkeypatch):
    asked = []

    def ask(module, order, *, threads):
        asked.append((order["weights"], order["cache"], threads))
        return figures(500, 20.0) if order["weights"] is None else figures(4000, 19.0, "float32")

    monkeypatch.setattr(precision, "ask", ask)
    comparison = PrecisionComparison(
        model="some & model", text="t", weights=("as-is", "float32"), caches=("int8",), threads=1
    )
    assert from_plain(to_plain(comparison), VALUES) == comparison
    found = {cell.key: one for cell, one, _ in measured(comparison, Folder.begin(tmp_path / "run", comparison))}
    assert asked == [(None, None, 1), ("float32", None, 1), (None, "int8", 1)]
    weights, caches = comparison.tables(found)
    assert weights.rows[0] == ("as-is", "500 B", "4.00", "20.000", "+5.26%", "20.0", "300.0")
    assert weights.rows[1][4] == "+0.00%" and caches.rows[0][:3] == ("int8", "66 B", "20.000")
    page = (tmp_path / "run" / "page.html").read_text(encoding="utf-8")
    assert "http" not in page and "some &amp; model" in page and "19.000 (+0.00%)" in page
    assert "Attention runs as sdpa." in page
    assert comparison.page({}) and "–" in comparison.tables({})[0].rows[0]


def test_what_the_file_has_lost_already_is_said():
    comparison = PrecisionComparison(model="m", text="t", weights=("as-is", "float32"), caches=())
    lossy = {key("as-is"): figures(500, 20.0, "q4_1", "q8_0")}
    assert "in q4_1 and q8_0 already" in comparison.tables(lossy)[0].note
    assert "already" not in comparison.tables({key("as-is"): figures(4000, 20.0, "float32")})[0].note


def test_what_failed_says_why():
    comparison = PrecisionComparison(model="m", text="t", weights=("float32",), caches=())
    assert comparison.tables({key("float32"): {"failed": "not enough memory"}})[0].rows[0][-1] == "not enough memory"
