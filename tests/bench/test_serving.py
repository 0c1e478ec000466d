"""What is made of the figures of serving. No server is started."""

from __future__ import annotations

import pytest

from .scripts import script


@pytest.fixture(scope="module")
def serving():
    with script("serving") as module:
        yield module


def test_room_is_that_of_the_longest_texts_at_once(serving):
    assert serving.Load(streams=(1, 2), prompt=10, new=4, shared=3, own=1, askers=1).room == 2 * (10 + 4 + 16)
    assert serving.Load(streams=(1, 2), prompt=10, new=4, shared=30, own=1, askers=3).room == 3 * (31 + 4 + 16)


def test_claims_are_held_against_each_rounds_ratio(serving):
    ours, peer, loop = serving.TORCH, serving.VLLM, serving.LOOP
    figures = {
        ours: {"1": [50.0, 60.0, 70.0], "16": [200.0, 100.0, 300.0], "32": [10.0]},
        peer: {"16": [100.0, 40.0, 150.0]},
        loop: {"1": [20.0, 30.0, 35.0]},
    }
    waits = {"apart": [30.0], "shared, first met": [2.0], "shared, met before": [1.0]}
    found = {"outside": 0.06, "waste": 0.02, "mean length": 512.0}
    told = serving.claims(figures, waits, found)
    assert [(number, holds) for _, number, holds in told] == [
        ("2.00x", False),  # 2.5, 2, 2: at least 2.5 is asked
        ("2.00x", True),  # 2, 2.5, 2
        ("15.0x (30.00 s, 2.00 s)", True),
        ("2.00%", True),
        ("6.00%", False),
    ]
    assert serving.ratio(figures, "32", ours, peer) is None
    figures |= {serving.INT8: {"16": [500.0, 100.0, 600.0]}, serving.LLAMA: {"16": [200.0, 100.0, 300.0]}}
    told = serving.claims(figures, waits, found)
    assert [(claim.split(",")[-1], number) for claim, number, _ in told[2:4]] == [
        (" 16 at once against vLLM bfloat16: at least 5x", "4.00x"),
        (" 16 at once against llama-server Q4_0: at least 2x", "2.00x"),
    ]
    table = serving.against(figures, serving.Load(streams=(1, 16)))
    assert "| cutaway (kernels, int8) / llama-server Q4_0 | – | 2.00x |" in table
    assert not any("cutaway (kernels) " in line for line in table)
    assert serving.cell({}, "16") == "–"
    assert serving.cell({"1": [1.0, 3.0], "1 first": [0.5]}, "1") == "2.0 (1.0 to 3.0) [0.50 s]"
