from __future__ import annotations

import pytest

from cutaway.cli import streaming
from cutaway.cli.streaming import Reading, follow
from cutaway.infer.answer import Piece


def pieces(*texts: str):
    return [Piece(text=text, token=place, logprob=-1.0) for place, text in enumerate(texts)]


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second whenever it is looked at."""
    times = iter(range(1000))
    monkeypatch.setattr(streaming.time, "perf_counter", lambda: float(next(times)))


def test_rate_counts_from_the_first_token(clock):
    reading, shown = Reading(), []
    follow(lambda: iter(pieces("a", "", "b", "c")), shown.append, reading)
    assert shown == ["a", "b", "c"] and reading.text == "abc"
    assert (reading.first, reading.last, reading.rate) == (1.0, 4.0, 1.0)
    assert reading.usage == "4 tokens, 1.0 tokens/s, the first after 1.00 s"


def test_one_token_has_no_rate_and_none_is_no_error(clock):
    reading = Reading()
    follow(lambda: iter(pieces("a")), lambda text: None, reading)
    assert reading.rate is None and reading.usage == "1 token, the first after 1.00 s"
    assert Reading().usage == "0 tokens, the first after 0.00 s" and Reading().plain()["tokens"] == []


def test_what_had_come_is_kept_when_it_is_interrupted(clock):
    def stopped():
        yield from pieces("a", "b")
        raise KeyboardInterrupt

    reading = Reading()
    with pytest.raises(KeyboardInterrupt):
        follow(stopped, lambda text: None, reading)
    assert reading.text == "ab"
