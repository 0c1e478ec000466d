from __future__ import annotations

from dataclasses import replace

import pytest

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.lab.compare import attention
from cutaway.lab.compare.attention import AttentionComparison
from cutaway.lab.compare.folder import Folder, measured
from cutaway.lab.compare.kinds import VALUES

SMALL = AttentionComparison(parts=("mha", "gqa:2"), contexts=(64, 256), dim=64, heads=4, threads=1)


@pytest.fixture
def asked(monkeypatch):
    """What would be measured in other processes; answered at once."""
    orders = []

    def ask(module, order, *, threads):
        orders.append((module, order, threads))
        if order["part"] == "mha" and order["context"] == 256:
            return {"failed": "not enough memory"}
        return {"prefill_seconds": 0.5, "decode_seconds": 0.25, "peak_bytes": None}

    monkeypatch.setattr(attention, "ask", ask)
    return orders


def test_it_is_a_value():
    assert from_plain(to_plain(SMALL), VALUES) == SMALL
    assert [cell.key for cell in SMALL.cells()] == ["mha at 64", "mha at 256", "gqa:2 at 64", "gqa:2 at 256"]


def test_a_cell_is_what_a_part_costs_and_what_it_takes(tmp_path, asked):
    found = {cell.key: figures for cell, figures, _ in measured(SMALL, Folder.begin(tmp_path, SMALL))}
    # By hand: 4 maps of 64 x 64, two FLOPs each; scores and sums over 64 keys of 64 numbers; keys and values, 4 bytes.
    assert found["mha at 64"]["parameters"] == 4 * 64 * 64
    assert found["mha at 64"]["flops_per_token"] == 2 * 4 * 64 * 64 + 2 * 2 * 64 * 64
    assert found["mha at 64"]["cache_bytes"] == 2 * 64 * 64 * 4 == 2 * found["gqa:2 at 64"]["cache_bytes"]
    assert found["mha at 64"]["prefill_flops"] == 64 * 2 * 4 * 64 * 64 + 2 * 2 * 64 * (64 * 65 // 2)
    assert [order["part"] for _, order, _ in asked] == ["mha", "mha", "gqa:2", "gqa:2"]
    assert all(order["longest"] == 256 and threads == 1 for _, order, threads in asked)
    (table,) = SMALL.tables(found)
    assert table.rows[0] == ("mha", "64", "16.4k", "49.2k", "512 B", "500 ms", "250 ms", "–")
    assert table.rows[1][:2] == ("", "256") and table.rows[1][-1] == "not enough memory"
    assert SMALL.tables({})[0].rows[0][2:] == ("–",) * 6
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 2 * 4, "two parts on four plots: nobody said what memory they took"
    assert "http" not in page and "not enough memory" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parts": ()}, "parts: names at least one"),
        ({"parts": ("mha", "mha")}, "parts: names at least one, and none twice"),
        ({"parts": ("mqq",)}, 'did you mean "mqa"'),
        ({"parts": ("mha:3",)}, "mha takes no number"),
        ({"parts": ("gqa:x",)}, "a number of kv heads"),
        ({"parts": ("gqa:3",)}, "gqa:3: GroupedQuery.kv_heads"),
        ({"parts": ("window:257",)}, "window:257: the window reaches beyond the longest context, 256"),
        ({"contexts": (0,)}, "contexts: must be 1"),
        ({"dim": 60}, "dim: 4 heads need a multiple of 16"),
        ({"heads": 0}, "heads: must be at least 1"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
        ({"attend": "naif"}, 'did you mean "naive"'),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(change, said):
    with pytest.raises(BadInput) as refused:
        replace(SMALL, **change)
    assert said in str(refused.value)
