from __future__ import annotations

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.block_tables import Keep
from cutaway.infer.paged import PagedCache, PagedView, keep, sizes
from cutaway.infer.scheduler import Limits
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import CacheView
from cutaway.nn.stream import Stream
from cutaway.ops.attend import attend_readable
from cutaway.ops.paged import attend_paged_readable
from cutaway.ops.visible import Visible

STREAMS = (
    Stream("all", (2, 3)),
    Stream("near", (1,), last=3),
    Stream("sinks", (1,), last=2, first=3),
    Stream("far", (1,), every=2),
    Stream("odd", (1,), every=5),
    Stream("narrow", (1,), dtype=torch.float64),
)
STATE = Stream("state", (2,), per="sequence")
LIMITS = Limits(tokens=400, sequences=4, budget=40, page=4, slack=6)


def write(view: CacheView, counts: tuple[int, ...], first: int, stateful: bool = False) -> None:
    """A pass over tokens that are numbered from `first` on, in two layers."""
    flat_N = torch.arange(first, first + sum(counts), dtype=torch.float32)
    for layer in (0, 1):
        for stream in STREAMS:
            parts, made = [], []
            for start, new_n in zip(view.lengths, flat_N.split(counts), strict=True):
                ends = [at for at in range(len(new_n)) if (start + at + 1) % stream.every == 0]
                parts.append(new_n[ends] + layer)
                made.append(len(ends))
            rows = torch.cat(parts).view(-1, *[1] * len(stream.shape)).expand(-1, *stream.shape)
            view.append(layer, stream.name, rows, tuple(made))
        if stateful:
            states, _ = view.read(layer, "state")
            added = torch.stack([new_n.sum() for new_n in flat_N.split(counts)])[:, None]
            view.replace(layer, "state", states + added + layer)


def seen(view: CacheView, stateful: bool = False) -> list[list[list[float]]]:
    """What each sequence may read of each stream."""
    found = []
    for layer in (0, 1):
        for stream in (*STREAMS, *((STATE,) if stateful else ())):
            rows, counts = view.read(layer, stream.name)
            assert rows.dtype == (stream.dtype or torch.float32) and rows.shape[1:] == stream.shape
            found.append([part.flatten().tolist() for part in rows.split(counts)])
    return found


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
            st.tuples(st.just("cut"), st.integers(0, 2), st.integers(0, 6)),
        ),
        max_size=12,
    )
)
def test_what_is_read_is_what_the_contiguous_cache_reads(steps):
    plain = ContiguousCache((STREAMS, STREAMS), sequences=3, capacity=1, slack=6)
    paged = PagedCache((STREAMS, STREAMS), LIMITS)
    for owner in range(3):
        paged.tables.open(owner)
    first, reached = 0, [0, 0, 0]  # slack is counted from the longest that each has been
    for step in steps:
        if step[0] == "cut":
            _, sequence, back = step
            length = max(0, plain.lengths[sequence] - back)
            if reached[sequence] - length <= LIMITS.slack:
                plain.truncate(sequence, length)
                PagedView(paged, range(3), (0, 0, 0)).truncate(sequence, length)
        else:
            view = paged.begin(range(3), step)
            assert view.lengths == plain.lengths
            write(plain, step, first)
            write(view, step, first)
            assert seen(view) == seen(plain)
            for one in (plain, view):
                one.advance(step)
            first += sum(step)
            reached = [max(pair) for pair in zip(reached, plain.lengths, strict=True)]
        for owner, length in enumerate(plain.lengths):
            assert paged.tables.length(owner) == length
            paged.tables.settle(owner, length)  # a step is done: windows let go
        paged.tables.check()


def test_rows_that_lie_side_by_side_are_read_where_they_lie():
    """Those of one sequence, prompt and steps, though another has come and gone; where pages lie apart, copies."""
    cache = PagedCache(((Stream("all", (2,)),),), LIMITS)
    pages = cache.pages[0, "all"]
    told = {0: [], 1: []}
    for owner in told:
        cache.tables.open(owner)

    def step(owner: int, count: int) -> bool:
        view = cache.begin((owner,), (count,))
        new = torch.rand(count, 2)
        view.append(0, "all", new, (count,))
        told[owner].append(new)
        rows_S, counts = view.read(0, "all")
        assert counts == (len(rows_S),) and torch.equal(rows_S, torch.cat(told[owner]))
        view.advance((count,))
        return pages.data_ptr() <= rows_S.data_ptr() < pages.data_ptr() + pages.nbytes

    assert step(0, 10) and all(step(0, 1) for _ in range(9))
    assert step(1, 6)  # in the pages behind them
    cache.tables.close(1)
    assert all(step(0, 1) for _ in range(9))
    cache.tables.open(1)
    told[1] = []
    assert step(1, 6) and not all(step(0, 1) for _ in range(9))


def test_marks_return_to_where_a_sequence_stood_whatever_was_written_since():
    plain = ContiguousCache(((*STREAMS, STATE),) * 2, sequences=2, capacity=1, slack=6)
    paged = PagedCache(((*STREAMS, STATE),) * 2, LIMITS)
    for owner in range(2):
        paged.tables.open(owner)
    marks = {}
    for turn, counts in enumerate([(5, 3), (1, 1), (6, 2), (1, 1)]):
        view = paged.begin(range(2), counts)
        for one in (plain, view):
            write(one, counts, 10 * turn, stateful=True)
            one.advance(counts)
        if turn == 1:
            marks = {"plain": plain.snapshot(1), "paged": view.snapshot(1)}
            held = paged.tables.pools[0].held
    assert paged.tables.pools[0].held > held
    view = PagedView(paged, range(2), (0, 0))
    plain.restore(1, marks["plain"])
    view.restore(1, marks["paged"])
    paged.tables.check()
    assert view.lengths == plain.lengths == (13, 4)
    view = paged.begin(range(2), (2, 2))
    for one in (plain, view):
        write(one, (2, 2), 90, stateful=True)
    assert seen(view, stateful=True) == seen(plain, stateful=True)


def test_a_mark_that_nobody_holds_lets_go_of_its_pages():
    cache = PagedCache((STREAMS,), LIMITS)
    cache.tables.open(0)
    view = cache.begin((0,), (6,))
    view.advance((6,))
    mark = view.snapshot(0)
    cache.tables.close(0)
    cache.tables.check()
    assert cache.tables.pools[0].held == 2
    owners = cache.tables.owners
    del mark
    gc.collect()
    assert cache.tables.owners == owners, "garbage may be collected amid any call of the tables: it changes nothing"
    PagedView(cache, (), ())
    cache.tables.check()
    assert cache.tables.owners == set() and cache.tables.pools[0].held == 0


def test_a_state_begins_as_zeros_also_in_a_page_that_another_had():
    cache = PagedCache(((STATE,),), Limits(tokens=8, sequences=1, budget=2, page=4))
    for owner in range(9):
        cache.tables.open(owner)
        view = cache.begin((owner,), (1,))
        assert view.read(0, "state")[0].tolist() == [[0.0, 0.0]]
        view.replace(0, "state", torch.ones(1, 2))
        view.advance((1,))
        cache.tables.close(owner)


def test_a_state_cannot_be_cut():
    cache = PagedCache(((STATE,),), LIMITS)
    cache.tables.open(0)
    view = cache.begin((0,), (3,))
    view.advance((3,))
    with pytest.raises(CutawayError, match="restore a snapshot"):
        view.truncate(0, 2)


@pytest.mark.parametrize(("name", "window"), [("key", None), ("near_key", 5)])
def test_a_paged_kernel_finds_the_rows_where_they_lie(name, window):
    """Attention over pages is attention over the rows that are read."""
    torch.manual_seed(0)
    kept = (Stream("key", (2, 4)), Stream("near_key", (2, 4), last=5))
    cache = PagedCache((kept,), LIMITS)
    counts, view = (9, 2, 14), None
    for owner in range(3):
        cache.tables.open(owner)
    for step in (counts, (1, 1, 1)):
        view = cache.begin(range(3), step)
        for stream in kept:
            view.append(0, stream.name, torch.randn(sum(step), 2, 4), step)
        rows_SGK, seen_S = view.read(0, name)
        pages_PCGK, table_BM, lengths_B = view.where(0, name)
        view.advance(step)
        for owner, length in enumerate(view.lengths):
            cache.tables.settle(owner, length)
    q_BHK = torch.randn(3, 4, 4)
    see = Visible(queries=(1, 1, 1), keys=seen_S, window=window)
    plain = attend_readable(q_BHK, rows_SGK, rows_SGK, see, scale=0.5)
    paged = attend_paged_readable(q_BHK, pages_PCGK, pages_PCGK, table_BM, lengths_B, scale=0.5, window=window)
    # Hidden keys make a row of scores longer, and its sum another order.
    assert torch.allclose(plain, paged, atol=1e-6)


def test_rows_that_are_not_one_a_token_have_no_place_for_a_kernel():
    cache = PagedCache(((*STREAMS, STATE),), LIMITS)
    cache.tables.open(0)
    view = cache.begin((0,), (3,))
    for name in ("far", "state"):
        with pytest.raises(BadInput, match="no row for each token"):
            view.where(0, name)


def test_rows_that_the_pass_does_not_make_are_refused():
    cache = PagedCache((STREAMS,), LIMITS)
    cache.tables.open(0)
    view = cache.begin((0,), (3,))
    with pytest.raises(BadInput, match=r"\(2,\) rows were given, the pass makes \(3,\)"):
        view.append(0, "near", torch.zeros(2, 1), (2,))


def test_streams_that_are_kept_for_equally_long_share_a_pool():
    cache = PagedCache((STREAMS, (Stream("other", (7,), last=3),)), LIMITS)
    assert cache.tables.keeps == (Keep(), Keep(last=3), Keep(last=2, first=3))
    assert cache.pool[0, "near"] == cache.pool[1, "other"] == 1
    assert cache.pages[0, "odd"].shape == (100, 1, 1)  # at most one row of five tokens ends in a page of four
    assert cache.bytes == sum(pages.numel() * pages.element_size() for pages in cache.pages.values())


def test_pools_hold_what_the_limits_say():
    limits = Limits(tokens=4096, sequences=8, budget=64, page=16, slack=0)
    whole, window, state = sizes((Keep(), Keep(last=64), Keep(whole=True)), limits)
    assert (whole, state) == (256, 32)
    assert 8 * (64 // 16 + 1) < window < whole
    assert sizes((Keep(last=5000),), limits)[0] == 256 + 8  # a window that nobody leaves behind is no window


def test_what_a_decoder_does_not_keep_is_refused():
    with pytest.raises(BadInput, match="no source to remember"):
        keep(Stream("read", (1,), per="memory"))
    with pytest.raises(BadInput, match="one name"):
        PagedCache(((Stream("a", (1,)), Stream("a", (1,))),), LIMITS)
