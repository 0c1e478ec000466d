"""Which kernels run: what the person asks for, what the CPU has, and what is said where there are none."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.ops.cpu import build
from cutaway.ops.cpu.build import SETS, asked_for, choose, find_kernels, kernels, library, wanted
from cutaway.ops.cpu.compiler import Failed
from cutaway.ops.cpu.multiply import multiply_kernels
from cutaway.ops.forms import attending


@pytest.fixture
def loaded():
    found = library()
    if found is None:
        pytest.skip(f"no kernels here: {kernels().why}")
    return found


@pytest.mark.parametrize(("asked", "name"), [("", None), (" ON ", None), ("off", "off"), ("AVX2", "avx2")])
def test_what_the_variable_asks_for(asked, name):
    assert wanted(asked) == name


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(BadInput, match=r'CUTAWAY_KERNELS: no kernels "avx513"; did you mean "avx512"\?'):
        wanted("avx513")


@pytest.mark.parametrize(
    ("bits", "name", "chosen"),
    [
        (7, None, "avx512"),
        (5, None, "avx512"),  # Zen 4
        (3, None, "avx2-vnni"),  # Alder Lake
        (1, None, "avx2"),
        (0, None, None),
        (5, "avx2", "avx2"),
        (1, "avx512", None),  # never an illegal instruction, even where one asks for it
        (5, "avx2-vnni", None),
    ],
)
def test_the_best_set_that_the_cpu_has(bits, name, chosen):
    assert choose(bits, name) == chosen


def test_off_compiles_nothing_and_is_no_fault(monkeypatch):
    monkeypatch.setattr(build, "find", lambda: pytest.fail("looked for a compiler"))
    assert find_kernels("off").library is None


def test_without_a_compiler_it_is_said_once_and_torch_runs(monkeypatch, capsys):
    monkeypatch.setattr(build, "_found", None)
    monkeypatch.setattr(build, "find", lambda: None)
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv(build.VARIABLE, raising=False)
    assert library() is None and library() is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no C++ compiler" in said


def test_another_cpu_has_none(monkeypatch):
    monkeypatch.setattr(build.platform, "machine", lambda: "aarch64")
    assert find_kernels("").why == "there are none for aarch64"


def test_what_the_compiler_says_is_the_reason(monkeypatch, loaded):
    def fail(*_):
        raise Failed("g++ failed: error: strips.h is gone")

    monkeypatch.setattr(build, "compiled", fail)
    found = find_kernels("")
    assert found.library is None and found.why == "g++ failed: error: strips.h is gone"


def test_all_threads_get_one_library(monkeypatch, loaded):
    monkeypatch.setattr(build, "_found", None)
    found, calls = [], []
    monkeypatch.setattr(build, "find_kernels", lambda asked: calls.append(asked) or kernels_of(loaded))
    threads = [threading.Thread(target=lambda: found.append(library())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [loaded] * 4 and len(calls) == 1


def kernels_of(one):
    return build.Kernels(library=one, set="avx2")


def test_kernels_run_on_as_many_threads_as_are_asked_for(loaded):
    assert [loaded.count_threads(count) for count in (1, 2, 3)] == [1, 2, 3]


def test_the_pool_is_the_one_that_torch_has(loaded):
    """In a process of its own, as threads of other tests would count: after torch's product no thread is new."""
    code = (
        "import os, torch; torch.set_num_threads(2)\n"
        "from cutaway.ops.cpu.build import library\n"
        "x = torch.ones(800, 800); x @ x; torch.ones(10**6).exp(); before = len(os.listdir('/proc/self/task'))\n"
        "assert library().count_threads(2) == 2\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    if not sys.platform.startswith("linux") or build._pool() is None:
        pytest.skip("only Linux tells a process's threads")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "0"


def test_threads_of_python_do_not_meet(loaded):
    counts: list[int] = []
    torch.ones(1)

    def ask():
        counts.extend(loaded.count_threads(2) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [2] * 60


def test_each_set_has_flags_of_its_own():
    assert len({one.flags for one in SETS.values()}) == len({one.bit for one in SETS.values()}) == len(SETS)


@pytest.mark.parametrize(("value", "asked"), [("", False), ("off", False), ("on", True), ("avx2", True)])
def test_commands_run_on_kernels_where_they_are_asked_for(monkeypatch, value, asked):
    monkeypatch.setenv("CUTAWAY_KERNELS", value)
    assert asked_for() is asked
    assert (attending().multiply is multiply_kernels) is asked
