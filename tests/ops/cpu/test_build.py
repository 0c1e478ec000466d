"""Which kernels run: what was compiled, by whom it is said, and what happens where there are none."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from tests.ops.cpu.sets import SANITIZED

from cutaway.ops.cpu import build, first_use
from cutaway.ops.cpu.build import Kernels, compiles, find_kernels, kernels, library, remark
from cutaway.ops.cpu.commands import Failed, output
from cutaway.ops.cpu.compiler import compiled, find
from cutaway.ops.cpu.first_use import Found
from cutaway.ops.cpu.instructions import COMMON, SETS, sources
from cutaway.ops.cpu.multiply import multiply_kernels
from cutaway.ops.forms import FAST, attending


@pytest.fixture
def loaded():
    found = library()
    if found is None:
        pytest.skip(f"no kernels here: {kernels().why}")
    return found


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def anew(monkeypatch):
    """Nothing was asked yet, for what is called with the state that is found; returns what was begun and said."""

    def ask(found: Found, *, terminal: bool = True, asked: str = "") -> tuple[list[str], str]:
        begun, said = [], Terminal() if terminal else io.StringIO()
        monkeypatch.setenv(build.VARIABLE, asked)
        monkeypatch.setattr(build, "_found", None)
        monkeypatch.setattr(first_use, "look", lambda asked: found)
        monkeypatch.setattr(first_use, "build", lambda asked: begun.append("compiled") or found)
        monkeypatch.setattr(first_use, "start", lambda: begun.append("started") or True)
        monkeypatch.setattr(sys, "stderr", said)
        assert library() is None and library() is None
        return begun, said.getvalue()

    return ask


def test_off_compiles_nothing_and_is_no_fault(anew):
    assert anew(Found(state="off", why="CUTAWAY_KERNELS=off"), asked="off") == ([], "")


def test_where_they_are_missing_a_build_begins_behind_ones_back_and_it_is_said_once(anew):
    begun, said = anew(Found(state="missing", why="they are not compiled yet"))
    assert begun == ["started"]
    assert said == "kernels are being compiled in the background: the next start is faster\n"


def test_where_another_process_is_at_it_none_is_started(anew):
    begun, said = anew(Found(state="building", why="they are being compiled"))
    assert begun == [] and said.count("\n") == 1


def test_into_a_pipe_nothing_is_said(anew):
    assert anew(Found(state="missing"), terminal=False) == (["started"], "")
    assert anew(Found(state="impossible", why="no C++ compiler is here"), terminal=False) == ([], "")


@pytest.mark.parametrize("state", ["failed", "impossible"])
def test_why_there_are_none_is_said_once_and_torch_runs(anew, state):
    begun, said = anew(Found(state=state, why="g++ failed: error: strips.h is gone"))
    assert begun == [] and said == "without kernels, more slowly: g++ failed: error: strips.h is gone\n"
    assert attending() == FAST


def test_on_compiles_now(anew):
    begun, said = anew(Found(state="missing", why="?"), asked="on")
    assert begun[0] == "compiled" and said.startswith("compiling kernels for this CPU, once")


@pytest.mark.parametrize(("value", "now"), [("", False), ("off", False), ("on", True), ("avx2", True)])
def test_who_waits_for_the_compiler(value, now):
    assert compiles(value) is now


def test_a_library_that_does_not_load_is_a_reason(monkeypatch, tmp_path):
    (tmp_path / "a.so").write_bytes(b"no library")
    monkeypatch.setattr(first_use, "look", lambda asked: Found(state="built", path=tmp_path / "a.so", set="avx2"))
    found = find_kernels("")
    assert found.library is None and found.state == "failed" and "does not load" in str(found.why)


def test_what_the_compiler_says_is_the_reason(monkeypatch, loaded):
    def fail(*given, **told):
        raise Failed("g++ failed: error: strips.h is gone")

    monkeypatch.setattr(first_use.making, "compiled", fail)
    found = find_kernels("on")
    assert found.library is None and found.why == "g++ failed: error: strips.h is gone"


def test_all_threads_get_one_library(monkeypatch, loaded):
    monkeypatch.setattr(build, "_found", None)
    found, calls = [], []
    monkeypatch.setattr(build, "find_kernels", lambda asked: calls.append(asked) or Kernels(library=loaded, set="avx2"))
    threads = [threading.Thread(target=lambda: found.append(library())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [loaded] * 4 and len(calls) == 1


def test_what_is_there_is_what_answers_a_person(monkeypatch, loaded):
    assert attending().multiply is multiply_kernels and remark(kernels()) is None
    monkeypatch.setattr(build, "_found", Kernels(why="CUTAWAY_KERNELS=off"))
    assert attending() == FAST


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
    if not sys.platform.startswith("linux") or build.torch_pool() is None:
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


OURS = ("build", "commands", "compiler", "first_use", "instructions", "memory")  # about how kernels come to be there


@pytest.mark.proof
def test_no_operation_touches_what_is_not_its_own(root, tmp_path, monkeypatch):
    """Every test of an operation once more, in a process in which the compiler has put a guard around each access to
    memory and each step of arithmetic that C++ does not define."""
    compiler = find()
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C++ compiler")
    guards = [
        Path((output([*compiler.command, f"-print-file-name=lib{name}.so"], 60) or "").strip())
        for name in ("asan", "ubsan")
    ]
    lacking = next((one for one in guards if not one.is_absolute() or not one.is_file()), None)
    if lacking is not None:
        pytest.skip(f"the compiler has no {lacking.name}")
    best = find_kernels("on").set
    if best is None:
        pytest.skip("no kernels here")
    monkeypatch.setenv("CUTAWAY_KERNELS_HOME", str(tmp_path))
    guarding = ("-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
    # -O1 behind -O3: guards would have to be optimised, too, which takes minutes.
    copies = [Path(shutil.copy(file, tmp_path)) for file in sources()]  # whoever edits meanwhile does no harm
    made = compiled("guarded", copies, (*COMMON, "-O1", *SETS[best].flags, *guarding), compiler)
    # What Python and torch leak at their end is not ours to judge.
    told = {"LD_PRELOAD": " ".join(map(str, guards)), "ASAN_OPTIONS": "detect_leaks=0:detect_odr_violation=0"}
    told |= {"CUTAWAY_KERNELS": "off", SANITIZED: str(made), "OMP_NUM_THREADS": "2"}
    tests = [
        str(file) for file in Path(__file__).parent.glob("test_*.py") if file.stem.removeprefix("test_") not in OURS
    ]
    done = run([sys.executable, "-m", "pytest", "-x", "-s", "-p", "no:cacheprovider", *map(str, tests)], root, told)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert " passed" in done.stdout


def run(command, folder, told) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", cwd=folder, env=os.environ | told
    )
