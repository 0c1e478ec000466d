from __future__ import annotations

import torch

from cutaway.infer import kernel_turns
from cutaway.infer.kernel_turns import Turns
from cutaway.nn.positions import Rope
from cutaway.ops import rope as turning


def test_tables_stay_where_they_are_and_do_not_depend_on_when_they_were_filled(monkeypatch):
    monkeypatch.setattr(kernel_turns, "BLOCK", 24)
    rope, tables = Rope(width=10), []
    for ends in ((1, 30, 90), (90,)):
        turns = Turns(100)
        cos_PW, sin_PW = turns.of(rope)
        for end in ends:
            turns.grow(end)
        assert turns.of(rope)[0] is cos_PW and turns.room >= 90
        tables.append((cos_PW[:90].clone(), sin_PW[:90].clone()))
    assert all(torch.equal(*pair) for pair in zip(*tables, strict=True))
    right = turning.tables(rope.frequencies(), torch.arange(90))
    # The last few of a row are rounded in another way.
    for found, expected in zip(tables[0], right, strict=True):
        torch.testing.assert_close(found, expected.squeeze(1), rtol=0, atol=2e-7)
    turns.grow(1000)
    assert turns.room == 100
