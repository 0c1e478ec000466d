"""What every test may ask for, and how Hypothesis behaves on a slow or shared machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from cutaway.base.paths import home

ROOT = Path(__file__).resolve().parents[1]

# A shell starts what runs in its background deaf to Ctrl-C, and every program that a test starts would be deaf too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The kernels of ops/triton run in Triton's interpreter, on CPU tensors; it has to be chosen before Triton is imported,
# by whomever. TRITON_INTERPRET=0 in the environment runs their tests on a GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Kernels in C++ (ops/cpu) are compiled when a test first asks for them, and never in the background: what runs must not
# depend on when. CUTAWAY_KERNELS=off in the environment has every test run without. They are kept where a person's are,
# also where a test gives programs another home: compiling takes half a minute.
os.environ.setdefault("CUTAWAY_KERNELS", "on")
os.environ.setdefault("CUTAWAY_KERNELS_HOME", str(home() / "kernels"))

# No deadline: a test may never fail because the machine was busy. CI draws the same examples at every run, so that a
# failure there means the change and not the draw; a person's runs keep looking for new ones.
settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data():
    """`shared_data("name")` is a path in the folder of small real data; the test is skipped where that is absent.

    The folder is CUTAWAY_TEST_DATA, or else shared/data beside the project.
    """
    folder = Path(os.environ.get("CUTAWAY_TEST_DATA") or ROOT.parent / "shared" / "data")

    def find(name: str) -> Path:
        if not (folder / name).exists():
            pytest.skip(f"the small real data is not here: {folder / name}")
        return folder / name

    return find
