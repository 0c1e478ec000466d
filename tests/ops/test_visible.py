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
