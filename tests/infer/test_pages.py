from __future__ import annotations

from collections import Counter

import pytest

from cutaway.base.errors import BadInput
from cutaway.infer.pages import NoPages, Pool, keys


def test_keys_tell_the_whole_beginning_apart():
    first = keys([1, 2, 3, 4, 5], 2)
    assert len(first) == 2
    assert keys([1, 2, 3, 4], 2) == first
    assert keys([9, 2, 3, 4], 2)[1] != first[1]  # the same second page behind another first one
    assert keys([1, 2, 3, 4], 2, salt=b"other")[0] != first[0]
    assert keys([1, 2, 3, 4, 5, 6], 2, known=first) == keys([1, 2, 3, 4, 5, 6], 2)
    assert keys([258], 1) != keys([1, 2], 1)[:1]


def test_pages_are_given_until_there_are_none():
    pool = Pool(2)
    assert {pool.take(), pool.take()} == {0, 1}
    with pytest.raises(NoPages, match="all 2 pages are held"):
        pool.take()
    pool.drop(1)
    assert pool.take() == 1
    pool.check(Counter({0: 1, 1: 1}))


def test_the_page_behind_another_is_given_if_it_is_free():
    pool = Pool(6)
    assert [pool.take(), pool.take(), pool.take(1)] == [0, 1, 2]
    assert [pool.take(), pool.take(2), pool.take(2)] == [3, 4, 5]
    for page in (4, 3, 1):
        pool.drop(page)
    assert [pool.take(2), pool.take(0), pool.take(0)] == [3, 1, 4]
    pool.check(Counter(range(6)))


def test_the_idle_page_that_was_let_go_of_first_is_used_first():
    pool = Pool(3)
    for key in (b"a", b"b", b"c"):
        pool.publish(pool.take(), key)
    pages = {key: pool.find(key) for key in (b"a", b"b", b"c")}
    for key in (b"b", b"a", b"c"):
        pool.drop(pages[key] or 0)
    pool.hold(pages[b"b"] or 0)  # used again, so it is let go of last
    pool.drop(pages[b"b"] or 0)
    pool.check(Counter())
    assert [pool.take() for _ in range(3)] == [pages[key] for key in (b"a", b"c", b"b")]
    assert pool.find(b"a") is None
    pool.check(Counter({0: 1, 1: 1, 2: 1}))


def test_a_free_page_goes_before_an_idle_one():
    pool = Pool(2)
    known = pool.take()
    pool.publish(known, b"a")
    pool.drop(known)
    assert pool.take() != known and pool.find(b"a") == known


def test_a_page_that_is_known_or_held_twice_is_fixed():
    pool = Pool(2)
    page = pool.take()
    assert not pool.fixed(page)
    pool.hold(page)
    assert pool.fixed(page)
    pool.drop(page)
    pool.publish(page, b"a")
    assert pool.fixed(page)
    pool.forget()
    assert not pool.fixed(page) and pool.find(b"a") is None
    pool.check(Counter({page: 1}))


def test_one_content_has_one_page():
    pool = Pool(2)
    first, second = pool.take(), pool.take()
    pool.publish(first, b"a")
    pool.publish(second, b"a")
    assert pool.find(b"a") == first and not pool.fixed(second)
    pool.check(Counter({first: 1, second: 1}))


def test_a_wrong_count_is_found_out():
    pool = Pool(2)
    page = pool.take()
    with pytest.raises(AssertionError, match="a wrong count"):
        pool.check(Counter({page: 2}))
    pool._free[page] = None
    with pytest.raises(AssertionError, match="two states"):
        pool.check(Counter({page: 1}))
    pool._free.clear()
    with pytest.raises(AssertionError, match="lost"):
        pool.check(Counter({page: 1}))


def test_a_pool_has_pages():
    with pytest.raises(BadInput, match="at least 1"):
        Pool(0)
