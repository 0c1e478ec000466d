"""The compiled kernels for tests: skipped where there are none; each instruction set as a proof of its own."""

from __future__ import annotations

import os

import pytest
import torch
from tests.ops.cpu.sets import FORCED, SANITIZED, forced

from cutaway.ops.cpu import build
from cutaway.ops.cpu import list as lists
from cutaway.ops.cpu.memory import Arena


@pytest.fixture(params=["", *(pytest.param(name, marks=pytest.mark.proof) for name in FORCED)], ids=["best", *FORCED])
def kernels(request, monkeypatch):
    """The kernels that operations and lists of them run on while the test lasts: the best set, or the one that is named
    (CUTAWAY_KERNELS chooses another one than the best)."""
    these = forced(request.param)
    if these.library is None:
        pytest.skip(f"no kernels: {these.why}")
    monkeypatch.setattr(lists, "library", lambda: these.library)
    return these.library


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """Where a sanitizer watches, all run on the library that it guards, and a matrix has memory of its own: in an arena
    one would run on into the next."""
    if os.environ.get(SANITIZED):
        monkeypatch.setattr(build, "_found", forced(""))
        monkeypatch.setattr(Arena, "empty", lambda self, *shape, dtype: torch.empty(shape, dtype=dtype))
