from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.data.documents import Held
from cutaway.data.entry import Entry
from cutaway.data.packing import Fitted
from cutaway.data.survey import SHOWN, Survey, histogram, packing_waste, padding_waste


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 50))
def test_every_document_is_in_one_bin_and_waste_is_that_of_the_rows(sizes, length):
    lengths = np.array(sizes, dtype=np.int64)
    bins = histogram(lengths)
    assert sum(one.documents for one in bins) == len(sizes) and sum(one.units for one in bins) == sum(sizes)
    for one in bins:
        assert one.documents == sum(one.low <= size <= one.high for size in sizes)
    if sum(sizes):
        rows = Fitted(Held([[0] * size for size in sizes]), length=length)
        count, waste = packing_waste(lengths, length)
        assert count == len(rows) and waste == pytest.approx(rows.waste)
        assert padding_waste(lengths, length) >= waste - 1e-12  # the two are divisions of the same numbers


def test_known_wastes():
    lengths = np.array([7, 6, 3, 12])
    assert packing_waste(lengths, 10) == (3, pytest.approx(2 / 30))  # 10+2, 7+3, 6+2
    assert padding_waste(lengths, 10) == pytest.approx(1 - 28 / 50)
    assert packing_waste(np.zeros(0, dtype=np.int64), 10) == (0, 0.0) and histogram(np.zeros(0, dtype=np.int64)) == []


def test_a_survey_counts_as_documents_go_by():
    survey = Survey.of(Entry(text, "f", at) for at, text in enumerate(["Hello", "你好", "", "1", "abc"]))
    assert survey.lengths == [5, 2, 0, 1, 3] and survey.bytes == 5 + 6 + 0 + 1 + 3
    assert survey.scripts == {"Latin": 8.0, "Han": 2.0} and len(survey.first) == SHOWN
