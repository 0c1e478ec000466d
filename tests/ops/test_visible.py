from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.ops.visible import Visible


@given(
    queries=st.integers(0, 6),
    older=st.integers(0, 6),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 8),
    prefix=st.none() | st.integers(0, 8),
    dropped=st.integers(0, 3),
)
def test_the_mask_is_the_rule(queries, older, causal, window, prefix, dropped):
    keys = queries + older
    see = Visible(
        queries=(queries,),
        keys=(keys,),
        causal=causal,
        window=window,
        prefix=None if prefix is None else (prefix,),
        dropped=(dropped,),
    )
    mask = see.mask(0)
    for t in range(queries):
        for s in range(keys):
            at = older + t
            expected = s <= at or not causal or (prefix is not None and s + dropped < prefix)
            expected = expected and (window is None or abs(at - s) < window)
            assert bool(mask[t, s]) == expected
    if queries:
        # The short cuts may only say yes where the mask does.
        assert not see.everything(0) or bool(mask.all())
        assert not see.plain_causal(0) or bool((mask == mask.new_ones(queries, keys).tril()).all())


@given(queries=st.integers(0, 6), keys=st.integers(0, 6))
def test_another_sequence_is_seen_whole_whatever_its_length(queries, keys):
    see = Visible(queries=(queries,), keys=(keys,), causal=False)
    assert see.everything(0) and not see.plain_causal(0)
    assert see.mask(0).shape == (queries, keys) and bool(see.mask(0).all())


@pytest.mark.parametrize(
    "wrong", [{"keys": (1, 2)}, {"queries": (3,)}, {"window": 0}, {"queries": (3,), "causal": False, "window": 2}]
)
def test_an_impossible_rule_is_refused(wrong):
    with pytest.raises(BadInput):
        Visible(**{"queries": (2,), "keys": (2,), **wrong})


RULES = [
    {},
    {"causal": False},
    {"window": 3},
    {"window": 3, "causal": False},
    {"window": 2, "sinks": 3},
    {"prefix": (5,)},
    {"prefix": (5,), "window": 2},
    {"prefix": (5,), "dropped": (2,)},
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("sizes", [(9, 9), (1, 9), (4, 9)])
def test_the_reach_of_queries_is_what_their_rows_of_the_mask_hold(rule, sizes):
    see = Visible(queries=sizes[:1], keys=sizes[1:], **rule)
    mask_TS = see.mask(0)
    for start in range(sizes[0]):
        for stop in range(start + 1, sizes[0] + 1):
            told = [key for part in see.reach(0, range(start, stop)) for key in part]
            seen = mask_TS[start:stop].any(0).nonzero()[:, 0].tolist()
            assert told == seen, (start, stop)
            keys = range(2, 7)
            assert see.tile(0, range(start, stop), keys).equal(mask_TS[start:stop, 2:7])


def test_sinks_are_seen_from_beyond_the_window():
    see = Visible(queries=(6,), keys=(6,), window=2, sinks=1)
    assert see.mask(0)[4].tolist() == [True, False, False, True, True, False]
    assert see.plain_causal(0) is False and Visible(queries=(3,), keys=(3,), window=2, sinks=1).plain_causal(0)
    assert Visible(queries=(1,), keys=(3,), window=2, sinks=1).everything(0)
    assert not Visible(queries=(1,), keys=(4,), window=2, sinks=1).everything(0)


@pytest.mark.parametrize("wrong", [{}, {"window": 2, "causal": False}, {"window": 2, "prefix": (1,)}])
def test_sinks_without_a_causal_window_are_refused(wrong):
    with pytest.raises(BadInput, match="sinks"):
        Visible(queries=(3,), keys=(3,), sinks=1, **wrong)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("sizes", [(9, 9), (1, 9), (4, 9)])
def test_the_queries_that_reach_keys_are_those_of_their_columns_of_the_mask(rule, sizes):
    """From the first that sees any to the last."""
    see = Visible(queries=sizes[:1], keys=sizes[1:], **rule)
    mask_TS = see.mask(0)
    for start in range(sizes[1]):
        for stop in range(start + 1, sizes[1] + 1):
            told = list(see.reached(0, range(start, stop)))
            seen = mask_TS[:, start:stop].any(1).nonzero()[:, 0].tolist()
            assert told == (list(range(seen[0], seen[-1] + 1)) if seen else []), (start, stop)


def test_another_sequence_is_reached_by_all_queries():
    assert Visible(queries=(3,), keys=(5,), causal=False).reached(0, range(4, 5)) == range(3)
    assert Visible(queries=(5,), keys=(3,), causal=False).reached(0, range(2)) == range(5)
