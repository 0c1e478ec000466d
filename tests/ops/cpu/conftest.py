"""The compiled kernels for tests: skipped where there are none; each lesser instruction set as a proof of its own."""

from __future__ import annotations

import os
from functools import lru_cache

import pytest

from cutaway.ops.cpu import build
from cutaway.ops.cpu import list as lists


@lru_cache
def found(name: str) -> build.Kernels:
    return build.find_kernels(name)


@pytest.fixture(params=["", pytest.param("avx2", marks=pytest.mark.proof)], ids=["best", "avx2"])
def kernels(request, monkeypatch):
    """The kernels that operations and lists of them run on while the test lasts: the best set, or the one that is named
    (CUTAWAY_KERNELS chooses another one than the best)."""
    these = found(request.param or os.environ.get(build.VARIABLE, ""))
    if these.library is None:
        pytest.skip(f"no kernels: {these.why}")
    monkeypatch.setattr(lists, "library", lambda: these.library)
    return these.library
