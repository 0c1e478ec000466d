"""A container that may use two cores of many is given two workers, not many."""

from __future__ import annotations

import os

import pytest

from cutaway.base import cores as module
from cutaway.base.cores import cores


@pytest.mark.parametrize(
    ("quota", "expected"),
    [(None, 8), ("250000 100000\n", 2), ("10000 100000\n", 1), ("max 100000\n", 8), ("900000 0\n", 8), ("", 8)],
)
def test_a_containers_quota_counts(monkeypatch, tmp_path, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(module, "CGROUP", tmp_path)
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota, encoding="utf-8")
    assert cores() == expected


def test_a_system_that_tells_neither(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(module, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
