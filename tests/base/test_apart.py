"""Work in a thread of its own."""

from __future__ import annotations

import threading

import pytest

from cutaway.base.apart import apart
from cutaway.base.errors import BadInput


def test_it_gives_what_was_made_in_a_thread_that_has_ended():
    other = apart(threading.current_thread)
    assert other is not threading.current_thread() and not other.is_alive()


def test_it_raises_what_was_raised():
    def work() -> None:
        raise BadInput("no", field="there")

    with pytest.raises(BadInput, match="no"):
        apart(work)
