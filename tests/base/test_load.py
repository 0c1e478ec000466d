"""A machine is busy by its load for each core."""

from __future__ import annotations

import os

import pytest

from cutaway.base.load import busy


@pytest.mark.parametrize("load, expected", [(0.0, False), (5.9, False), (6.0, True), (80.0, True)])
def test_load_is_held_against_cores(monkeypatch, load, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert busy() is expected


def test_a_system_that_does_not_tell_is_not_busy(monkeypatch):
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert busy() is False
