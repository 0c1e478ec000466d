"""Every reading is right under its own way of counting, and the card finds a wrong one wrong."""

from __future__ import annotations

from cutaway.lab.cards import nsa_equation_9
from cutaway.lab.cards.nsa_equation_9 import ALIKE, APART, COUNTINGS, OVERLAPPING, READINGS, RIGHT, Counting, right


def test_blocks_are_where_they_are_counted():
    begins, ends = Counting(base=0, ends=False), Counting(base=0, ends=True)
    assert begins.compressed(0, 4, 2) == range(4) and begins.compressed(3, 4, 2) == range(6, 10)
    assert ends.compressed(1, 4, 2) == range(4) and ends.compressed(4, 4, 2) == range(6, 10)
    assert Counting(base=1, ends=False).compressed(1, 4, 2) == range(4)
    assert Counting(base=1, ends=True).compressed(2, 4, 2) == range(4)
    assert Counting(base=1, ends=True).selectable(2, 8) == begins.selectable(1, 8) == range(8, 16)


def test_each_reading_is_right_at_all_sizes_or_at_none_where_blocks_overlap():
    for name, reading in READINGS.items():
        for counting in COUNTINGS:
            found = {right(reading, counting, *sizes) for sizes in OVERLAPPING}
            assert found == {(name, counting) in RIGHT}


def test_readings_that_are_right_stay_so_at_every_size():
    for name, counting in RIGHT:
        assert all(right(READINGS[name], counting, *sizes) for sizes in (*ALIKE, *APART, (7, 7, 7)))


def test_one_shift_or_sign_too_many_is_wrong():
    first = Counting(base=0, ends=False)
    assert right(lambda start, m, n: start + m - n, first, 4, 2, 4)
    assert not right(lambda start, m, n: start + m - n + 1, first, 4, 2, 4)
    assert not right(lambda start, m, n: start + m, first, 4, 2, 4)  # misses what overlaps from before
    assert not right(lambda start, m, n: start - n, first, *APART[0])
    # The fourth sign is right where none of these is.
    assert right(lambda start, m, n: start - m + n, Counting(base=1, ends=True), 4, 2, 4)


def test_the_card_holds_and_does_not_without_ours(monkeypatch):
    outcome = nsa_equation_9.CARD.reproduce()
    assert outcome.verdict == "holds", [(one.what, one.ours) for one in outcome.findings]
    monkeypatch.setitem(READINGS, "ours, +m-n", READINGS["first reading, +m+n"])
    assert nsa_equation_9.CARD.reproduce().verdict == "differs"
