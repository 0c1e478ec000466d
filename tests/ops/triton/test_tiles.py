from __future__ import annotations

import pytest
import torch

from cutaway.ops.tiled import Tiles
from cutaway.ops.triton.tiles import plan
from cutaway.ops.visible import Visible

CPU = torch.device("cpu")
RULES = [{}, {"causal": False}, {"window": 9}, {"window": 9, "sinks": 3}, {"prefix": (13, 2)}]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_a_tile_is_told_to_visit_is_all_that_it_sees_and_each_key_once(rule):
    see = Visible(queries=(37, 5), keys=(37, 20), **rule)
    tables = plan(see, 4, Tiles(queries=8, keys=8), CPU)
    visited = [torch.zeros(37, 37), torch.zeros(5, 20)]
    for index, start, sinks, near, end in tables.queries_X5.tolist():
        visited[index][start : start + 8, :sinks] += 1
        visited[index][start : start + 8, near:end] += 1
    reached = [torch.zeros(37, 37), torch.zeros(5, 20)]
    for index, start, first, end in tables.keys_X4.tolist():
        reached[index][first:end, start : start + 8] += 1
    for index in range(2):
        mask = see.mask(index)
        for told in (visited[index], reached[index]):
            assert bool((told[mask] == 1).all()) and float(told.max()) == 1
            if index == 0 and rule != {"causal": False}:
                assert float(told.sum()) < told.numel(), "nothing is skipped"


def test_where_each_sequence_begins():
    tables = plan(Visible(queries=(2, 0, 3), keys=(4, 1, 3), prefix=(2, 1, 9)), 5, Tiles(), CPU)
    assert tables.sequences_B6.tolist() == [[0, 2, 0, 4, 2, 0], [2, 0, 4, 1, 1, 40], [2, 3, 5, 3, 9, 40]]


def test_all_layers_share_one_plan_and_inferring_leaves_it_usable():
    see = Visible(queries=(3,), keys=(3,))
    with torch.inference_mode():
        first = plan(see, 7, Tiles(), CPU)
    assert plan(see, 7, Tiles(), CPU) is first and not first.queries_X5.is_inference()


def test_no_sequences():
    tables = plan(Visible(queries=(), keys=()), 1, Tiles(), CPU)
    assert [tuple(table.shape) for table in (tables.sequences_B6, tables.queries_X5, tables.keys_X4)] == [
        (0, 6),
        (0, 5),
        (0, 4),
    ]
