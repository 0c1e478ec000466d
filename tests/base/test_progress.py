from __future__ import annotations

import pytest

from cutaway.base.progress import byte_bar, track


@pytest.fixture(params=["pipe", "terminal"])
def stderr(request, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    if request.param == "terminal":
        monkeypatch.setenv("TTY_COMPATIBLE", "1")  # how rich is told that what it writes to is a terminal
        monkeypatch.setenv("TERM", "xterm")
    return request.param


def test_track_yields_everything_and_speaks_only_to_a_terminal(stderr, capsys):
    assert list(track(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert list(track(iter("abc"), "spelling", total=3)) == ["a", "b", "c"]
    assert list(track([], "nothing")) == []
    out, error = capsys.readouterr()
    assert out == ""  # stdout is for results
    assert ("counting" in error) == (stderr == "terminal")


def test_byte_bar_shows_amounts_only_to_a_terminal(stderr, capsys):
    with byte_bar("fetching", total=3_000_000) as advance:
        advance(1_000_000)
        advance(2_000_000)
    out, error = capsys.readouterr()
    assert out == ""
    assert ("3.0/3.0 MB" in error) == (stderr == "terminal")
    assert stderr == "terminal" or error == ""


def test_a_failure_inside_passes_through(stderr):
    with pytest.raises(OSError, match="disk"), byte_bar("fetching") as advance:
        advance(1)
        raise OSError("disk full")
