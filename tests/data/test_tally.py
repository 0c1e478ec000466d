from __future__ import annotations

from cutaway.data.entry import Entry
from cutaway.data.tally import Tally


def test_it_counts_and_remembers_the_first_of_each_reason():
    tally = Tally(read=10)
    tally.drop(Entry("a", "x.txt", 3), "empty")
    tally.drop(Entry("b", "y.txt", 4), "empty", "0 characters")
    tally.drop(Entry("c", "y.txt", 5), "too long", "900 characters")
    assert tally.kept == 7
    assert tally.lines() == ["2 empty, the first x.txt:3", "1 too long, the first y.txt:5 (900 characters)"]
