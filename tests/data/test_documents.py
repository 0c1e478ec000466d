from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.data.documents import Chained, Held, Joined

texts = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6)


@given(texts, st.data())
def test_a_stretch_is_what_lies_there(documents, data):
    held, whole = Held(documents), [token for document in documents for token in document]
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole) + 3))
    for one in (held, Joined(held), Chained([held, Held([])])):
        assert one.stretch(start, stop).tolist() == whole[start:stop]
    assert Joined(held).read(0, start, stop).tolist() == whole[start:stop]
    assert Joined(held).lengths.tolist() == [len(whole)]


@given(st.lists(texts, min_size=1, max_size=4), st.data())
def test_chained_sets_are_one(sets, data):
    chain, all_documents = Chained([Held(one) for one in sets]), [document for one in sets for document in one]
    assert chain.lengths.tolist() == [len(document) for document in all_documents]
    for number, document in enumerate(all_documents):
        assert chain.read(number, 0, len(document)).tolist() == document
        assert chain.read(number, 1, max(1, len(document) - 1)).tolist() == document[1:-1]
    assert [chain.firsts[place] for place in range(len(sets))] == [
        sum(len(one) for one in sets[:place]) for place in range(len(sets))
    ]
    whole = [token for document in all_documents for token in document]
    start = data.draw(st.integers(0, len(whole)))
    assert chain.stretch(start, start + 4).tolist() == whole[start : start + 4]


def test_nothing_to_chain_is_refused():
    with pytest.raises(BadInput, match="no documents to chain"):
        Chained([])


def test_held_takes_arrays_of_any_whole_type():
    assert Held([np.array([1, 2], dtype=np.uint16)]).read(0, 0, 2).dtype == np.int64
