"""Weights and payments: a value weighs what writing it out takes, however much of itself it shares."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cutaway.text.fuel import BASE, ELEMENT, SHARE, Exhausted, Fuel


def test_shared_parts_weigh_every_time_they_are_written():
    fuel = Fuel(None)
    value: list = ["ab"]
    weights = []
    for _ in range(50):
        weights.append(fuel.weigh(value))
        value = [value, value]
    assert all(later > 2 * earlier for earlier, later in pairwise(weights))
    assert fuel.weigh([value]) > 2**50


def test_a_weight_grows_with_the_text_written():
    fuel = Fuel(None)
    for value in ("x" * 100, 10**300, [1] * 50, {"a": ["字" * 20]}, range(100), (1, (2, (3,)))):
        assert fuel.weigh(value) >= len(str(value)) // 2 or isinstance(value, range)


def test_the_budget_grows_with_what_the_caller_gave():
    given = [{"role": "user", "content": "x" * 1000}]
    assert Fuel(given).left == BASE + SHARE * Fuel(None).weigh(given)


def test_spending_more_than_there_is_stops():
    fuel = Fuel("")
    fuel.spend(fuel.left)
    with pytest.raises(Exhausted):
        fuel.spend(1)
    with pytest.raises(Exhausted):
        fuel.made("new")
    fuel.spend(0)
    before = fuel.left
    fuel.spend(-5)
    assert fuel.left == before, "nothing is ever paid back"


def test_lazy_values_are_drawn_and_paid_for():
    fuel = Fuel("")
    before = fuel.left
    assert fuel.made(iter("abc")) == ["a", "b", "c"]
    assert before - fuel.left >= 3 * ELEMENT
    with pytest.raises(Exhausted):
        fuel.made(iter(int, 1))  # never ends by itself


def test_numbers_past_any_use_are_refused():
    with pytest.raises(Exhausted, match="an integer of 4097 bits"):
        Fuel(None).weigh(1 << 4096)
