from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from cutaway.cli import machine
from cutaway.cli.machine import Machine, look
from cutaway.ops.cpu import compiler
from cutaway.ops.cpu.compiler import Compiler

INTEL = "processor: 0\nmodel name\t: Some CPU @ 2GHz\nflags\t: fpu avx2 avx512f avx512_vnni amx_tile\n\nprocessor: 1\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50\nFeatures\t: fp asimd asimddp sve\n"


def test_this_machine_is_described():
    here = look()
    assert isinstance(here, Machine) and here.cores >= 1 and here.processor and here.system
    assert here.memory is None or here.memory > 1 << 20


@pytest.fixture
def files(monkeypatch):
    """Linux, with the files given and no others."""
    contents: dict[str, str] = {}
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(machine, "_read", lambda path: contents.get(Path(path).as_posix(), ""))
    return contents


def test_features_on_intel_and_arm(files):
    files["/proc/cpuinfo"] = INTEL
    assert machine._features() == ("avx2", "avx512f", "avx512_vnni", "amx")
    assert machine._processor() == "Some CPU @ 2GHz"
    files["/proc/cpuinfo"] = ARM
    assert machine._features() == ("neon", "dotprod", "sve")


def test_memory_with_and_without_a_containers_limit(files):
    files["/proc/meminfo"] = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\n"
    assert machine._memory() == (1_024_000, 614_400)
    files["/sys/fs/cgroup/memory.max"] = "500000\n"
    files["/sys/fs/cgroup/memory.current"] = "100000\n"
    assert machine._memory() == (500_000, 400_000)
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert machine._memory() == (1_024_000, 614_400)


def test_nothing_known_is_no_error(files, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert machine._memory() == (None, None) and machine._features() == () and machine._compiler() is None


def test_the_compiler_is_the_one_that_kernels_are_made_with(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert machine._compiler() is None
    monkeypatch.setattr(compiler, "find", lambda: Compiler(command=("g++", "-m64"), version="g++ 12"))
    assert machine._compiler() == "g++ -m64: g++ 12"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_another_systems_ways_that_fail_here_are_no_error(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    here = look()
    assert here.cores >= 1
