from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.data.documents import Held
from cutaway.data.packing import Fitted, Streamed, Sweep, Windows, best_fit

corpora = (
    st.lists(st.integers(0, 9), min_size=1, max_size=12)
    .filter(any)
    .map(lambda sizes: Held([range(100 * at, 100 * at + size) for at, size in enumerate(sizes)]))
)


def tokens_of(rows, documents) -> list[int]:
    return [token for row in rows for piece in row for token in documents.read(*piece).tolist()]


def everything(documents) -> list[int]:
    return sorted(documents.stretch(0, 10**6).tolist())


@given(corpora, st.integers(1, 12), st.integers(0, 5), st.sampled_from([Streamed, Fitted]), st.booleans())
def test_every_token_comes_exactly_once_an_epoch(documents, length, seed, order, shuffled):
    rows = order(documents, length=length, seed=seed, shuffled=shuffled, epochs=3)
    every, taken = [], None
    while taken != []:
        taken = rows.take(2)
        every += taken
    assert all(0 < sum(piece.stop - piece.start for piece in row) <= length for row in every)
    assert all(piece.stop > piece.start for row in every for piece in row)
    assert Counter(tokens_of(every, documents)) == Counter(everything(documents) * 3)


@given(corpora, st.integers(1, 12), st.integers(0, 5))
def test_a_stream_wastes_nothing_and_keeps_the_order_inside_a_document(documents, length, seed):
    rows = Streamed(documents, length=length, seed=seed)
    taken = rows.take(20)
    assert all(sum(piece.stop - piece.start for piece in row) == length for row in taken)
    pieces = [piece for row in taken for piece in row]
    for one, other in pairwise(pieces):
        ended = one.stop == documents.lengths[one.document]
        assert other.start == 0 if ended else (other.document, other.start) == (one.document, one.stop)


def test_each_epoch_has_another_order_unless_told():
    documents = Held([[at] for at in range(50)])
    rows = Streamed(documents, length=50, seed=1)
    first, second = rows.take(2)
    assert first != second and sorted(first) == sorted(second)
    plain = Streamed(documents, length=50, shuffled=False).take(2)
    assert plain[0] == plain[1] and [piece.document for piece in plain[0]] == list(range(50))
    assert Streamed(documents, length=50, seed=2).take(1) != [first]


@given(corpora, st.integers(1, 12))
def test_fitted_cuts_only_what_is_longer_than_a_row(documents, length):
    rows = Fitted(documents, length=length, epochs=1)
    pieces = [piece for row in rows.take(len(rows)) for piece in row]
    for document, size in enumerate(documents.lengths.tolist()):
        expected = [(start, min(size, start + length)) for start in range(0, size, length)]
        assert sorted((piece.start, piece.stop) for piece in pieces if piece.document == document) == expected


def naive_best_fit(sizes, length) -> list[int]:
    """The rooms that best fit leaves, by looking at every row for every piece."""
    rooms: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else length) - size)
    return sorted(rooms)


@given(st.lists(st.integers(1, 20), max_size=60))
def test_best_fit_is_that_of_the_slow_way(sizes):
    rows = best_fit(np.array(sizes, dtype=np.int64), 20)
    assert sorted(piece for row in rows for piece in row) == list(range(len(sizes)))
    assert sorted(20 - sum(sizes[piece] for piece in row) for row in rows) == naive_best_fit(sizes, 20)


def test_waste_is_the_share_of_empty_places():
    assert Fitted(Held([[0] * 7, [0] * 6, [0] * 3]), length=10).waste == pytest.approx(1 - 16 / 20)
    assert Fitted(Held([[0] * 7, [0] * 3]), length=10).waste == 0
    assert Streamed(Held([[0] * 7, [0] * 6]), length=10).waste == 0


def test_windows_are_everywhere_equally_often_and_never_without_a_target():
    documents = Held([range(30), range(30, 41)])
    rows = Windows(documents, length=10, seed=3).take(31_000)
    starts = Counter(row[0].start for row in rows)
    assert sorted(starts) == list(range(31))  # the last window ends at token 40, whose target is token 41
    # 1,000 each expected; chi-squared with 30 degrees: 75 is beyond 1 in 100,000
    assert sum((count - 1000) ** 2 / 1000 for count in starts.values()) < 75
    assert Windows(documents, length=10, seed=4).take(5) != rows[:5]


@given(st.integers(2, 40), st.integers(1, 12))
def test_a_sweep_predicts_every_token_but_the_first_once(size, length):
    rows = Sweep(Held([range(size)]), length=length)
    pieces = [piece for row in rows.take(100) for piece in row]
    predicted = [place + 1 for piece in pieces for place in range(piece.start, piece.stop)]
    assert predicted == list(range(1, size))
    assert rows.take(1) == []


ORDERS: list[Any] = [
    lambda documents: Streamed(documents, length=4, seed=1, epochs=2),
    lambda documents: Streamed(documents, length=4, seed=1),
    lambda documents: Fitted(documents, length=4, seed=1, epochs=2),
    lambda documents: Windows(documents, length=4, seed=1),
    lambda documents: Sweep(documents, length=4),
]


@pytest.mark.parametrize("make", ORDERS)
def test_going_on_from_any_point_is_the_same_as_never_stopping(make):
    documents = Held([range(5), [], range(3), range(11), [1], []])
    rows = make(documents)
    whole = [rows.take(1) for _ in range(30)]
    for stop in range(30):
        first = make(documents)
        for _ in range(stop):
            first.take(1)
        second = make(documents)
        second.restore(first.state())
        assert [second.take(1) for _ in range(30 - stop)] == whole[stop:]
    rows.restart()
    assert [rows.take(1) for _ in range(30)] == whole


@pytest.mark.parametrize(
    ("change", "field"),
    [({"tokens": 1}, "tokens"), ({"length": 5}, "length"), ({"seed": 2}, "seed"), ({"order": "Fitted"}, "order")],
)
def test_a_state_of_something_else_is_refused(change, field):
    rows = Streamed(Held([range(20)]), length=4)
    with pytest.raises(BadInput, match=f"{field}: the state was saved with"):
        rows.restore({**rows.state(), **change})


@pytest.mark.parametrize("wrong", [None, -1, "3", 1.5, True])
def test_a_broken_state_is_refused(wrong):
    rows = Streamed(Held([range(20)]), length=4)
    with pytest.raises(BadInput, match="place: must be a whole number"):
        rows.restore({**rows.state(), "place": wrong})


def test_what_cannot_be_is_refused():
    with pytest.raises(BadInput, match="the corpus is empty"):
        Streamed(Held([[], []]), length=4)
    with pytest.raises(BadInput, match="3 tokens, too few for windows of 3"):
        Windows(Held([range(3)]), length=3)
    with pytest.raises(BadInput, match="length: a row holds"):
        Fitted(Held([range(3)]), length=0)
    with pytest.raises(BadInput, match="epochs: must be at least 1"):
        Fitted(Held([range(3)]), length=1, epochs=0)
    with pytest.raises(BadInput, match="nothing to predict"):
        Sweep(Held([[1]]), length=1)
