from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from cutaway.lab.compare import resident
from cutaway.lab.compare.resident import Peak, highest

TEN = 10 * 2**20


def test_a_peak_is_seen_and_one_from_before_is_not():
    if highest() is None:
        pytest.skip("this system does not say")
    # In a process of its own: what other tests left behind may be given back to the system meanwhile.
    code = """
        from cutaway.lab.compare.resident import Peak
        before = bytearray(20 * TEN)  # far more than the next: only a peak that was forgotten lets that be seen
        before[::4096] = b"1" * len(before[::4096])
        del before
        peak = Peak()
        held = bytearray(5 * TEN)
        held[::4096] = b"1" * len(held[::4096])  # pages count once they are touched
        print(peak.above())
    """
    command = [sys.executable, "-c", textwrap.dedent(code).replace("TEN", str(TEN))]
    found = int(subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout)
    if resident.STATUS.exists():
        assert 5 * TEN <= found <= 7 * TEN


def test_without_proc_the_highest_peak_of_all_is_what_there_is(monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "FORGET", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(resident, "highest", iter([100, 350]).__next__)
    assert Peak().above() == 250
    monkeypatch.setattr(resident, "highest", lambda: None)
    assert Peak().above() is None
