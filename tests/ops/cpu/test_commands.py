"""Several programs at once: all are awaited, the first that fails ends the rest and is told in one line."""

from __future__ import annotations

import sys
import time

import pytest

from cutaway.ops.cpu import commands
from cutaway.ops.cpu.commands import Failed, finished, output


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_all_are_done_and_the_quick_ones_do_not_wait_for_the_slow(tmp_path):
    slow = python(f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'two')!r}).exists(): time.sleep(0.01)")
    quick = [python(f"open({str(tmp_path / name)!r}, 'w').close()") for name in ("one", "two")]
    # With two at once `slow` ends only if `two` is begun beside it: when `one` has ended. Which of the last two ends
    # first nobody knows.
    order = list(finished([slow, *quick], 2))
    assert order[0] == 1 and sorted(order) == [0, 1, 2]


def test_the_first_that_fails_ends_the_others(tmp_path):
    started = time.monotonic()
    fails = python("print('some words'); print('x.cpp:1: error: nonsense'); print('more'); raise SystemExit(3)")
    with pytest.raises(Failed, match=r"failed: x\.cpp:1: error: nonsense$"):
        list(finished([python("import time; time.sleep(60)"), fails, python("import time; time.sleep(60)")], 2))
    assert time.monotonic() - started < 50


@pytest.mark.skipif(sys.platform == "win32", reason="programs have no groups there")
def test_what_a_program_began_ends_with_it(monkeypatch):
    """As g++ begins the compiler proper, which has the same output."""
    deep = python(f"import subprocess; subprocess.run({python('import time; time.sleep(60)')!r})")
    started = time.monotonic()
    with pytest.raises(Failed, match="exit code 3"):
        list(finished([deep, python("import time; time.sleep(1); raise SystemExit(3)")], 2))
    monkeypatch.setattr(commands, "LONG", 1.0)
    with pytest.raises(Failed, match="did not come back"):
        list(finished([deep], 1))
    assert time.monotonic() - started < 50


def test_a_program_that_says_nothing_or_is_gone_or_hangs(monkeypatch):
    with pytest.raises(Failed, match="exit code 3"):
        list(finished([python("raise SystemExit(3)")], 1))
    with pytest.raises(Failed, match="no-such-program does not run: "):
        list(finished([["no-such-program"]], 1))
    monkeypatch.setattr(commands, "LONG", 0.2)
    with pytest.raises(Failed, match="did not come back within 0 seconds"):
        list(finished([python("import time; time.sleep(60)")], 1))


def test_what_a_program_prints():
    assert output(python("print('hello')"), 60) == "hello\n"
    assert output(python("raise SystemExit(1)"), 60) is None and output(["no-such-program"], 60) is None
    assert output(python("import time; time.sleep(60)"), 0.2) is None
