from __future__ import annotations

import threading
import time
from itertools import islice

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.data.batches import Batches
from cutaway.data.documents import Held
from cutaway.data.packing import Streamed
from cutaway.data.prefetch import Prefetch

DOCUMENTS = Held([range(100 * at, 100 * at + size) for at, size in enumerate([5, 1, 9, 0, 4, 7, 3, 12])])


def batches(epochs: int | None = None) -> Batches:
    return Batches(Streamed(DOCUMENTS, length=5, seed=4, epochs=epochs), count=2)


def ids(stream) -> list[list[int]]:
    return [batch.ids_N.tolist() for batch in stream]


def full(prefetch: Prefetch) -> None:
    """Waits until the thread has filled its queue (or has nothing left to fill it with)."""
    for _ in range(2000):
        if prefetch._queue.full():
            return
        time.sleep(0.005)
    pytest.fail("the queue never filled")


@pytest.mark.parametrize("depth", [1, 3])
def test_it_brings_the_same_batches_and_ends_where_they_end(depth):
    with Prefetch(batches(epochs=2), depth=depth) as prefetch:
        assert ids(prefetch) == ids(batches(epochs=2))
        assert ids(prefetch) == []


def test_the_state_is_that_of_what_was_handed_out():
    plain, prefetch = batches(), Prefetch(batches(), depth=3)
    assert prefetch.state() == plain.state()
    stream = iter(prefetch)
    for batch in islice(plain, 8):
        assert next(stream).ids_N.tolist() == batch.ids_N.tolist()
        full(prefetch)
        assert prefetch.state() == plain.state()
    prefetch.close()


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_going_on_from_a_state_is_the_same_as_never_stopping(stop):
    whole = ids(islice(batches(), 12))
    with Prefetch(batches()) as first, Prefetch(batches()) as second:
        assert ids(islice(first, stop)) == whole[:stop]
        assert ids(islice(second, 2)) == whole[:2]  # it has run ahead when it is sent elsewhere
        second.restore(first.state())
        assert ids(islice(second, 12 - stop)) == whole[stop:]


def test_closing_gives_back_what_was_fetched():
    inner = batches()
    prefetch = Prefetch(inner, depth=3)
    seen = ids(islice(prefetch, 2))
    full(prefetch)
    before = threading.active_count()
    prefetch.close()
    assert threading.active_count() == before - 1
    assert inner.state() == prefetch.state()
    assert seen + ids(islice(prefetch, 3)) == ids(islice(batches(), 5))
    prefetch.close()
    prefetch.close()


class Failing(Batches):
    """Breaks at the third batch, each time it gets there."""

    def __iter__(self):
        for count, batch in enumerate(super().__iter__()):
            if count == 2:
                raise OSError("the disk is gone")
            yield batch


def test_an_exception_comes_where_the_batch_would_have_come():
    prefetch = Prefetch(Failing(Streamed(DOCUMENTS, length=5, seed=4), count=2))
    stream = iter(prefetch)
    assert ids(islice(stream, 2)) == ids(islice(batches(), 2))
    state = prefetch.state()
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)
    assert prefetch.state() == state and prefetch._thread is None
    assert ids(islice(prefetch, 1)) == ids(islice(batches(), 3))[2:], "the cause removed, it goes on"
    prefetch.close()


def test_a_state_that_is_refused_changes_nothing():
    with Prefetch(batches(), depth=3) as prefetch:
        first = ids(islice(prefetch, 1))
        full(prefetch)
        with pytest.raises(BadInput, match="seed"):
            prefetch.restore({**prefetch.state(), "seed": 9})
        assert first + ids(islice(prefetch, 3)) == ids(islice(batches(), 4))


def test_pinned_batches_are_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(Batch, "pinned", lambda self: self.to("meta"))
    with Prefetch(batches(), pin=True) as prefetch:
        assert next(iter(prefetch)).ids_N.device.type == "meta"
    if not torch.cuda.is_available():
        with Prefetch(batches()) as prefetch:
            assert next(iter(prefetch)).ids_N.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU knows page-locked memory")
def test_on_a_gpu_batches_are_page_locked():
    with Prefetch(batches()) as prefetch:
        assert next(iter(prefetch)).ids_N.is_pinned()


def test_a_depth_of_nothing_is_refused():
    with pytest.raises(BadInput, match="depth: must be at least 1"):
        Prefetch(batches(), depth=0)
