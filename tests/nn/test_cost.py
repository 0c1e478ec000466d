from __future__ import annotations

import dataclasses

import pytest

from cutaway.nn.cost import Cost, linear_cost


def test_costs_add_field_by_field():
    assert Cost(1, 2, 3) + Cost(10, 20, 30) == Cost(parameters=11, flops=22, cache_bytes=33)
    assert sum([Cost(1, 2, 3)] * 4, Cost()) == Cost(4, 8, 12)


def test_copies_multiply_from_both_sides():
    assert Cost(1, 2, 3) * 30 == 30 * Cost(1, 2, 3) == Cost(30, 60, 90)


def test_only_whole_copies_and_other_costs_are_taken():
    with pytest.raises(TypeError):
        Cost(1, 2, 3) * 0.5  # type: ignore[operator]
    with pytest.raises(TypeError):
        Cost(1, 2, 3) + 1  # type: ignore[operator]


def test_a_cost_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cost().flops = 1  # type: ignore[misc]


def test_a_dense_layer_counts_two_flops_per_multiply_add_and_none_for_its_bias():
    assert linear_cost(3, 5, tokens=7, bias=False) == Cost(parameters=15, flops=210)
    assert linear_cost(3, 5, tokens=7, bias=True) == Cost(parameters=20, flops=210)
