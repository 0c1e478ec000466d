from __future__ import annotations

from collections.abc import Iterator

import pytest

from cutaway.lab.profile.clock import Clock


def ticking(*seconds: float) -> Clock:
    times: Iterator[float] = iter(seconds)
    return Clock(lambda: next(times))


def test_a_moment_is_the_innermost_ones():
    clock = ticking(10.0, 11.0, 13.0, 17.0, 25.0)
    clock.start("outer")
    clock.enter("inner")  # after 1
    assert clock.name == "inner"
    clock.enter("inmost")  # 2
    clock.leave()  # 4
    clock.stop()  # 8: still open, and counted all the same
    assert clock.seconds == {"outer": 1.0, "inner": 10.0, "inmost": 4.0}
    assert sum(clock.seconds.values()) == clock.whole == 15.0
    assert clock.calls == {"inner": 1, "inmost": 1}


def test_the_outermost_can_become_another():
    clock = ticking(0.0, 1.0, 3.0, 7.0, 15.0)
    clock.start("before")
    clock.enter("inner")
    clock.become("behind")
    clock.leave()
    clock.stop()
    assert clock.seconds == {"before": 1.0, "inner": 6.0, "behind": 8.0}


def test_a_timed_call_is_named_by_its_caller_and_returns_as_it_did():
    clock = ticking(0.0, 1.0, 3.0, 6.0)
    call = clock.timed(lambda one, *, two: one + two, lambda caller: f"{caller}'s")
    clock.start("outer")
    assert call(1, two=2) == 3
    clock.stop()
    assert clock.seconds == {"outer": 4.0, "outer's": 2.0}


def test_an_error_leaves_it_as_it_was():
    clock = ticking(0.0, 1.0, 3.0, 6.0)

    def fail():
        raise ValueError("no")

    call = clock.timed(fail, lambda caller: "failing")
    clock.start("outer")
    with pytest.raises(ValueError, match="no"):
        call()
    assert clock.name == "outer"
    clock.stop()
    assert clock.seconds == {"outer": 4.0, "failing": 2.0} and clock.whole == 6.0


def test_it_goes_on_where_it_was_stopped():
    clock = ticking(0.0, 1.0, 100.0, 102.0)
    call = clock.timed(lambda: None, lambda caller: "never")
    for _ in range(2):
        clock.start("outer")
        clock.stop()
    assert clock.whole == 3.0 and call is not None
