from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.block_tables import BlockTables, Keep
from cutaway.infer.pages import NoPages, keys

from .book import Book

EVERYTHING, NEAR, SINKS, STATE = Keep(), Keep(last=5), Keep(last=3, first=2), Keep(whole=True)


class Tables(RuleBasedStateMachine):
    """Sequences that begin, share, grow, are cut, forked and closed, in few pages; a `Book` finds out what is wrong.

    States cannot be cut back: with them, `truncate` must refuse.
    """

    KEEPS = (EVERYTHING, NEAR, SINKS)

    def __init__(self):
        super().__init__()
        self.tables = BlockTables(self.KEEPS, [14, 11, 10, 8][: len(self.KEEPS)], page=3, slack=1)
        self.book = Book(self.tables)
        self.texts: dict[int, list[int]] = {}
        self.reached: dict[int, int] = {}  # the longest each has been: slack is counted from there
        self.number = 0

    def _new(self) -> int:
        self.number += 1
        return self.number

    @precondition(lambda self: len(self.texts) < 5)
    @rule(text=st.lists(st.integers(0, 1), max_size=14))
    def begin(self, text):
        owner = self._new()
        self.tables.open(owner)
        found = keys(text, 3)
        most = max(0, len(text) - 1)
        shareable = self.tables.shareable(found, most)
        shared = self.tables.share(owner, found, most)
        assert shared == shareable <= most and shared % 3 == 0
        self.texts[owner], self.reached[owner] = text[:shared], shared
        self.book.read(owner, text, shared, shared)

    @precondition(lambda self: self.texts)
    @rule(which=st.integers(0), new=st.lists(st.integers(0, 1), min_size=1, max_size=7), kept=st.integers(0, 7))
    def grow(self, which, new, kept):
        """As a step does: reserve, write, then keep all of it, or, as after a guess, a part."""
        owner = self._pick(which)
        text = self.texts[owner]
        before = [list(self.tables.rows(owner, index)) for index in range(len(self.KEEPS))]
        try:
            copies = self.tables.reserve(owner, len(text) + len(new))
        except NoPages:
            assert before == [self.tables.rows(owner, index) for index in range(len(self.KEEPS))]
            return
        self.book.copy(copies)
        start, end = len(text), len(text) + len(new)
        self.book.write(owner, text + new, start, end)
        if self.tables.stateful:
            kept = len(new)
        self.texts[owner] = (text + new)[: start + kept]
        self.tables.settle(owner, len(self.texts[owner]), keys(self.texts[owner], 3))
        self.reached[owner] = max(self.reached[owner], len(self.texts[owner]))

    @precondition(lambda self: self.texts)
    @rule(which=st.integers(0), back=st.integers(1, 4))
    def cut(self, which, back):
        owner = self._pick(which)
        length = max(0, len(self.texts[owner]) - back)
        try:
            self.tables.truncate(owner, length)
        except CutawayError:
            within = self.reached[owner] - length <= self.tables.slack
            assert self.tables.stateful or not within, "a cut within the slack was refused"
        else:
            self.texts[owner] = self.texts[owner][:length]

    @precondition(lambda self: self.texts and len(self.texts) < 5)
    @rule(which=st.integers(0))
    def fork(self, which):
        owner, child = self._pick(which), self._new()
        self.tables.fork(owner, child)
        self.texts[child], self.reached[child] = list(self.texts[owner]), self.reached[owner]

    @precondition(lambda self: self.texts)
    @rule(which=st.integers(0))
    def close(self, which):
        owner = self._pick(which)
        self.tables.close(owner)
        del self.texts[owner]

    @rule()
    def forget(self):
        self.tables.forget()
        assert self.tables.shareable(keys([0, 0, 0], 3) + keys([1, 1, 1], 3), 3) == 0

    def _pick(self, which: int) -> int:
        return sorted(self.texts)[which % len(self.texts)]

    @invariant()
    def sound(self):
        self.tables.check()
        for owner, text in self.texts.items():
            assert self.tables.length(owner) == len(text)
            self.book.read(owner, text, len(text), len(text))

    def teardown(self):
        for owner in list(self.texts):
            self.tables.close(owner)
        self.tables.check()
        assert all(pool.held == 0 for pool in self.tables.pools), "a page leaked"


class Stateful(Tables):
    KEEPS = (EVERYTHING, NEAR, SINKS, STATE)


class Windows(Tables):
    """Nothing is kept whole."""

    KEEPS = (NEAR, SINKS)


@pytest.mark.parametrize("machine", [Tables, Stateful, Windows])
def test_every_sequence_reads_its_own_past_and_no_page_is_lost(machine):
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))


@pytest.mark.proof
@pytest.mark.parametrize("machine", [Tables, Stateful, Windows])
def test_the_same_over_ten_thousand_operations(machine):
    run_state_machine_as_test(machine, settings=settings(max_examples=200, stateful_step_count=50, deadline=None))


def test_forks_share_until_one_writes():
    tables = BlockTables((EVERYTHING,), [8], page=4)
    tables.open(0)
    assert tables.reserve(0, 6) == []
    tables.settle(0, 6)
    tables.fork(0, 1)
    assert tables.pools[0].held == 2
    (copy,) = tables.reserve(1, 7)
    assert copy.source == tables.rows(0, 0)[1] and copy.target == tables.rows(1, 0)[1]
    assert tables.reserve(0, 7) == []  # the other one has it to itself by now
    assert tables.rows(0, 0)[0] == tables.rows(1, 0)[0] and tables.pools[0].held == 3
    tables.check()


@pytest.mark.parametrize("lost", ["fork", "truncate", "mark"])
def test_room_is_made_a_page_at_a_time_until_others_hold_or_know_it(lost, monkeypatch):
    tables = BlockTables((EVERYTHING,), [8], page=4)
    looked = []
    wanted = BlockTables._wanted
    monkeypatch.setattr(BlockTables, "_wanted", lambda *told: looked.append(told[3]) or wanted(*told))
    tables.open(0)
    for length in range(1, 10):
        assert tables.reserve(0, length) == []
        tables.settle(0, length, keys([1] * length, 4))
        tables.check()
    assert looked == [1, 5, 9]
    if lost == "fork":
        tables.fork(0, 1)
    elif lost == "truncate":
        tables.truncate(0, 7)  # within a page that is known by its content
    else:  # what a sequence became again, as where a guess is taken back
        tables.fork(0, -1)
        tables.close(0)
        tables.fork(-1, 0)
    assert len(tables.reserve(0, tables.length(0) + 1)) == 1
    tables.check()


def test_room_that_others_hold_is_found_out():
    tables = BlockTables((EVERYTHING,), [8], page=4)
    tables.open(0)
    tables.reserve(0, 2)
    tables.settle(0, 2)
    tables.pools[0].publish(tables.rows(0, 0)[0], b"key")
    with pytest.raises(AssertionError, match="may write page"):
        tables.check()


def test_a_window_lets_go_of_its_pages_and_keeps_the_sinks():
    tables = BlockTables((EVERYTHING, Keep(last=4, first=2)), [100, 100], page=2)
    tables.open(0)
    for length in range(1, 60):
        tables.reserve(0, length)
        tables.settle(0, length)
    assert tables.pools[0].held == 30
    assert tables.pools[1].held <= 1 + 3  # the sinks' page, and four tokens that may begin within a page
    assert tables.rows(0, 1)[0] >= 0
    tables.check()


def test_a_beginning_is_shared_as_far_as_every_pool_still_has_it():
    text = [7] * 40
    tables = BlockTables((EVERYTHING, Keep(last=4)), [30, 30], page=4)
    tables.open(0)
    tables.reserve(0, 40)
    tables.settle(0, 40, keys(text, 4))
    tables.open(1)
    assert tables.share(1, keys(text, 4), 39) == 36
    assert [page >= 0 for page in tables.rows(1, 1)] == [False] * 8 + [True]  # no more than the window reads
    tables.open(2)
    assert tables.share(2, keys([*text[:20], 8, *text[21:]], 4), 39) == 20  # up to where the texts part
    tables.check()


def test_what_was_begun_before_all_was_forgotten_is_never_found():
    tables = BlockTables((EVERYTHING,), [30], page=2)
    tables.open(0)
    tables.reserve(0, 6)
    tables.settle(0, 4, keys([1] * 4, 2))
    tables.fork(0, 1)
    tables.forget()
    for owner in (0, 1):
        tables.reserve(owner, 8)
        tables.settle(owner, 8, keys([1] * 8, 2))
    assert tables.shareable(keys([1] * 8, 2), 8) == 0
    tables.check()


def test_a_state_is_shared_where_a_snapshot_was_taken():
    text = list(range(12))
    tables = BlockTables((EVERYTHING, STATE), [30, 6], page=4)
    tables.open(0)
    for length in (4, 10, 12):  # no pass ended at 8
        tables.reserve(0, length)
        tables.settle(0, length, keys(text[:length], 4))
    assert tables.shareable(keys([*text, 0], 4), 12) == 12
    assert tables.shareable(keys([*text[:11], 0, 0], 4), 12) == 4
    tables.open(1)
    assert tables.share(1, keys([*text[:11], 0, 0], 4), 12) == 4
    assert [copy.source is not None for copy in tables.reserve(1, 5)] == [True]  # the snapshot stays as it is
    with pytest.raises(CutawayError, match="restore a snapshot"):
        tables.truncate(0, 8)
    tables.check()


def test_a_window_cannot_go_back_behind_its_slack():
    tables = BlockTables((Keep(last=2),), [30], page=2, slack=2)
    tables.open(0)
    for length in range(1, 20):
        tables.reserve(0, length)
        tables.settle(0, length)
    with pytest.raises(CutawayError, match="older pages are gone"):
        tables.truncate(0, 8)
    assert tables.length(0) == 19
    tables.truncate(0, 17)
    tables.check()


def test_a_page_that_is_lost_is_found_out():
    tables = BlockTables((EVERYTHING,), [4], page=2)
    tables.open(0)
    tables.reserve(0, 4)
    tables.settle(0, 4)
    tables.rows(0, 0).pop()
    with pytest.raises(AssertionError, match="without a page"):
        tables.check()
    tables.truncate(0, 2)
    with pytest.raises(AssertionError, match="a wrong count"):
        tables.check()


@pytest.mark.parametrize(
    ("keep", "tokens", "pages"), [(EVERYTHING, 100, 25), (Keep(last=8), 100, 7), (Keep(last=8), 8, 2), (STATE, 9, 2)]
)
def test_room_is_what_a_sequence_alone_needs_at_most(keep, tokens, pages):
    assert keep.room(tokens, 10, 4) == pages
    tables = BlockTables((keep,), [pages], page=4)
    assert tables.fits(tokens, 10) and not BlockTables((keep,), [pages - 1], page=4).fits(tokens, 10)
    tables.open(0)
    for length in [*range(10, tokens, 10), tokens]:
        tables.reserve(0, length)
        tables.settle(0, length, keys([1] * length, 4))
    tables.check()


@pytest.mark.parametrize("bad", [{"last": 0}, {"last": 2, "first": -1}])
def test_an_impossible_keep_is_refused(bad):
    with pytest.raises(BadInput):
        Keep(**bad)
