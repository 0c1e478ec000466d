from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.data.permutation import BLOCK, Permutation, mixed, subseed


@given(st.one_of(st.integers(1, 300), st.integers(BLOCK - 2, 6 * BLOCK)), st.integers(0, 2**64))
@settings(max_examples=60)
def test_each_thing_comes_once(count, seed):
    assert sorted(Permutation(count, seed).of(np.arange(count)).tolist()) == list(range(count))


def test_a_large_shuffle_moves_things_evenly():
    """Where the things of each eighth of the order come from."""
    count = 8 * 5000
    order = Permutation(count, 1).of(np.arange(count))
    table = np.zeros((8, 8))
    np.add.at(table, (np.arange(count) // 5000, order // 5000), 1)
    # 625 expected in each cell; chi-squared with 49 degrees: 105 is beyond 1 in 100,000
    assert ((table - 625) ** 2 / 625).sum() < 105


def test_asking_one_by_one_and_from_anywhere_gives_the_same():
    count = 2 * BLOCK + 17
    together = Permutation(count, 5).of(np.arange(count)).tolist()
    order = Permutation(count, 5)
    assert [order[place] for place in (0, BLOCK, BLOCK - 1, count - 1, 3)] == [
        together[place] for place in (0, BLOCK, BLOCK - 1, count - 1, 3)
    ]
    assert list(order) == together and len(order) == count


def test_seeds_shuffle_differently_and_none_hardly_at_all():
    orders = [Permutation(1000, seed).of(np.arange(1000)) for seed in (0, 1, 2)]
    orders += [Permutation(2 * BLOCK, seed).of(np.arange(1000)) for seed in (0, 1, 2)]
    for one, other in zip(orders, [*orders[1:], np.arange(1000)], strict=True):
        assert (one == other).sum() < 10  # 1 is expected at random; 10 or more has odds of 1 in 10 million
    assert subseed(1, 0) != subseed(1, 1) != subseed(2, 0) and subseed(1, 2, 3) != subseed(1, 3, 2)


def test_all_orders_of_four_things_are_about_equally_likely():
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(2400):
        order = tuple(Permutation(4, seed))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    # 100 each expected; the sum of squares is chi-squared with 23 degrees: 60 is beyond 1 in 30,000
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 60


def test_mixed_numbers_look_random():
    numbers = mixed(3, np.arange(100_000))
    assert len(set(numbers.tolist())) == 100_000
    shares = np.bincount((numbers >> np.uint64(60)).astype(int), minlength=16) / 100_000
    assert np.abs(shares - 1 / 16).max() < 0.004  # 5 standard deviations
    neighbours = np.corrcoef(numbers[1:].astype(float), numbers[:-1].astype(float))[0, 1]
    assert abs(neighbours) < 0.016  # likewise


def test_nothing_to_shuffle_is_refused():
    with pytest.raises(BadInput, match="nothing to shuffle"):
        Permutation(0, 1)
    with pytest.raises(IndexError):
        Permutation(3, 1)[3]
