"""When to come again: by the queue and the rate, within bounds."""

from __future__ import annotations

import pytest

from cutaway.serve.pace import MOST, Pace, bounded


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def working(every: float, count: int) -> tuple[Pace, Clock]:
    """So many turns have ended, one after the other, each after so many seconds."""
    clock = Clock()
    pace = Pace(clock)
    pace.began()
    for _ in range(count):
        clock.now += every
        pace.ended(left=5)
        pace.began()
    return pace, clock


def test_twice_as_many_wait_twice_as_long_and_a_faster_server_half():
    slow, _ = working(0.5, 39)  # 39 ends in 19.5 seconds, and the next as if it came now: 2.05 a second
    assert [slow.wait(count) for count in (10, 20, 40)] == [5, 10, 20]
    fast, _ = working(0.25, 39)
    assert fast.wait(40) == 10


def test_only_the_last_minute_counts():
    pace, clock = working(0.1, 600)
    clock.now += 30
    assert pace.wait(10) == 2  # 300 ends in 60 seconds
    clock.now += 29.95
    assert pace.wait(1) == 30, "one end in a minute is left, and the next"
    clock.now += 0.1
    assert pace.wait(1) == MOST


def test_where_nothing_has_ended_the_time_that_it_lasts_tells():
    pace, clock = working(1.0, 0)
    assert pace.wait(1) == 1
    clock.now += 7.5
    assert (pace.wait(1), pace.wait(3), pace.wait(100)) == (8, 23, MOST)


def test_idle_time_is_no_slowness():
    pace, clock = working(0.5, 10)
    pace.ended(left=0)
    clock.now += 50
    assert pace.wait(5) == 1
    pace.began()
    clock.now += 1
    pace.ended(left=1)
    assert pace.wait(4) == 2, "4 others at 2 a second"


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 1), (1.01, 2), (59.5, 60), (1e9, 60)])
def test_what_is_told_is_a_whole_number_within_bounds(seconds, told):
    assert bounded(seconds) == told
