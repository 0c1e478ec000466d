"""A window behind rows that stay: what is read, cut back and restored; the plain buffer is tested with its cache."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.nn.rows import CacheError, Rows
from cutaway.nn.stream import Stream

STREAM = Stream("key", (1,), last=3, first=2)


def pinned(slack: int = 2) -> Rows:
    return Rows(STREAM, torch.float64, None, 1, slack)


def numbers(first: int, count: int) -> torch.Tensor:
    return torch.arange(first, first + count, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_the_first_rows_and_the_last_are_read(chunk):
    rows = pinned()
    for end in range(chunk, 31, chunk):
        rows.append(numbers(end - chunk, chunk))
        rows.check()
        # The oldest of the new rows sees two older ones, and the first two of all.
        seen = sorted({0, 1, *range(max(0, end - chunk - 2), end)} & set(range(end)))
        assert rows.read()[:, 0].tolist() == seen
        assert rows.end == end and rows.visible == len(seen)


def test_it_is_cut_back_copied_and_restored():
    rows = pinned()
    rows.append(numbers(0, 9))
    held, twin = rows.held(), rows.copy()
    rows.append(numbers(9, 2))
    rows.cut(9)
    assert rows.read()[:, 0].tolist() == [0, 1, 6, 7, 8] == twin.held()[:, 0].tolist()
    fresh = pinned()
    fresh.put(held, 9)
    fresh.append(numbers(9, 1))
    fresh.check()
    assert fresh.read()[:, 0].tolist() == [0, 1, 7, 8, 9] and fresh.end == 10
    fresh.append(numbers(10, 1))
    with pytest.raises(CacheError, match="gone"):
        fresh.refuse_cut(5)
    short = pinned()
    short.append(numbers(0, 4))
    short.cut(1)
    short.append(numbers(7, 2))
    short.check()
    assert short.read()[:, 0].tolist() == [0, 7, 8]


def test_it_goes_back_as_far_as_all_that_is_seen_from_there_is_held():
    rows = pinned(slack=4)
    for row in range(30):
        rows.append(numbers(row, 1))
    refused = []
    for end in range(31):
        twin = rows.copy()
        needed = {*range(min(2, end)), *range(max(0, end - 2), end)}
        try:
            twin.refuse_cut(end)
        except CacheError:
            refused.append(end)
            continue
        twin.cut(end)
        twin.append(numbers(end, 1))
        twin.check()
        assert twin.read()[:, 0].tolist() == sorted(needed | {end})
    assert refused == list(range(2 + rows.dropped + 2)) and rows.dropped > 5


def test_first_rows_stay_where_they_are_and_the_others_behind_them():
    """As kernels read them: a first row at its own place, each of the last at one less than the row behind it."""
    rows = pinned(slack=0)
    for row in range(40):
        at = rows.extend(1)
        rows.buffer[at] = row
        assert rows.buffer[:2, 0].tolist() == [0, 1] or row < 1
        window = rows.buffer[max(at - 2, min(at, 2)) : at + 1, 0].tolist()
        assert window == list(range(max(row - 2, min(row, 2)), row + 1))
    assert len(rows.buffer) < 12 and rows.dropped > 25


@pytest.mark.parametrize("wrong", [{"first": 1}, {"first": -1, "last": 2}, {"first": 1, "last": 2, "every": 2}])
def test_pinned_rows_without_a_window_are_refused(wrong):
    with pytest.raises(BadInput):
        Stream("key", (1,), **wrong)
