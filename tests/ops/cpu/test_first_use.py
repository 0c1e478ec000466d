"""What is there of the kernels, in each state; and the build in the background: detached, once, seen by the next."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from cutaway.ops.cpu import compiler, first_use
from cutaway.ops.cpu.compiler import LOCK, find
from cutaway.ops.cpu.first_use import build, look, start

# A stand-in for the compiler: whatever it is given, it hands out a library that says that the CPU has all sets. In the
# shell's language, as a process of the lowest priority may have to run it a dozen times on a busy machine.
SCRIPT = """\
#!/bin/sh
echo "$*" >> {notes}
case "$*" in *--version*) echo "stand-in 1"; exit;; esac
while [ -e {gate} ]; do sleep 0.05; done
if [ -e {broken} ]; then echo "error: broken"; exit 1; fi
for last; do :; done
cp {library} "$last"
"""


class StandIn:
    """`notes`: what it was called with. `gate`: while this file is there it waits. `broken`: then it fails."""

    def __init__(self, folder: Path, real: tuple[str, ...]):
        self.notes, self.gate, self.broken = (folder / name for name in ("notes", "gate", "broken"))
        source, library, script = folder / "all.cpp", folder / "all.so", folder / "stand_in"
        source.write_text('extern "C" int instruction_sets() { return 7; }\n', encoding="utf-8")
        subprocess.run([*real, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        told = {name: shlex.quote(str(getattr(self, name))) for name in ("notes", "gate", "broken")}
        script.write_text(SCRIPT.format(**told, library=shlex.quote(str(library))), encoding="utf-8")
        script.chmod(0o755)
        self.command = shlex.quote(str(script))

    @property
    def compiled(self) -> int:
        lines = self.notes.read_text(encoding="utf-8").splitlines() if self.notes.exists() else []
        return sum("-c" in line.split() for line in lines)


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is in the shell's language")


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> StandIn:
    real = find()
    if real is None:
        pytest.skip("no C++ compiler is here")
    made = StandIn(tmp_path, real.command)
    monkeypatch.setenv("CXX", made.command)
    monkeypatch.setenv("CUTAWAY_KERNELS_HOME", str(tmp_path / "kernels"))
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("CUTAWAY_KERNELS")
    monkeypatch.setattr(first_use.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(first_use, "sources", lambda: (tmp_path / "all.cpp",))
    return made


def test_missing_then_built(stand_in):
    assert look("").state == "missing" and look("").compiler == "stand-in 1"
    assert stand_in.compiled == 0, "looking compiles nothing"
    told = []
    made = build("", lambda done, all: told.append((done, all)))
    assert (made.state, made.set) == ("built", "avx512") and made.path is not None and made.path.is_file()
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert look("") == look("on") == made and build("on") == made and stand_in.compiled == 2
    assert look("avx2").state == "missing" and build("avx2").set == "avx2"


def test_a_compiler_that_fails_is_remembered_for_a_day_and_tried_again_when_asked(stand_in, monkeypatch):
    stand_in.broken.touch()
    failed = build("")
    assert failed.state == "failed" and failed.why is not None and failed.why.endswith("error: broken")
    assert look("").state == "failed" and look("").why == failed.why
    now = time.time()
    monkeypatch.setattr(compiler.time, "time", lambda: now + compiler.AGAIN + 1)
    assert look("").state == "missing"
    monkeypatch.undo()
    stand_in.broken.unlink()


def test_a_build_that_works_takes_the_note_away(stand_in):
    stand_in.broken.touch()
    assert build("").state == "failed"
    stand_in.broken.unlink()
    assert build("").state == look("").state == "built"


def test_another_process_is_at_it(stand_in, tmp_path):
    (tmp_path / "kernels").mkdir()
    with FileLock(tmp_path / "kernels" / LOCK):
        assert look("").state == "building"
    assert look("").state == "missing"


def test_off_another_cpu_no_compiler(stand_in, monkeypatch):
    assert look("off").state == "off" and not stand_in.notes.exists()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert look("").state == "impossible" and look("").why == compiler.lack()
    assert "no-such-compiler" in compiler.lack()
    monkeypatch.setattr(first_use.platform, "machine", lambda: "aarch64")
    assert (look("on").state, look("on").why) == ("impossible", "there are none for aarch64")


def test_a_cpu_without_the_set(stand_in, monkeypatch):
    monkeypatch.setattr(first_use, "ask", lambda probe: 0)
    assert (build("").state, build("").why) == ("impossible", "this CPU lacks AVX2")
    monkeypatch.setattr(first_use, "ask", lambda probe: 1)
    assert build("avx512").why == "this CPU lacks avx512" and build("").set == "avx2"
    compiled = stand_in.notes.read_text(encoding="utf-8")
    assert "-mavx512f" not in compiled, "nothing of a set is compiled that the CPU lacks"


def test_nowhere_to_compile_into(stand_in, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CUTAWAY_KERNELS_HOME", str(tmp_path / "file" / "kernels"))
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path / "file"))
    for one in (look(""), build("")):
        assert one.state == "failed" and "no folder for compiled kernels: " in str(one.why)


def until(condition, seconds=500.0):
    """Waits for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "another process did not get there"
        time.sleep(0.02)


def test_a_build_in_the_background(tmp_path, monkeypatch):
    """The real sources, but a stand-in that compiles none of them: detached, alone, and found by who comes next."""
    real = find()
    if real is None or look("on").state == "impossible":
        pytest.skip("no kernels here")
    stand_in = StandIn(tmp_path, real.command)
    monkeypatch.setenv("CXX", stand_in.command)
    monkeypatch.setenv("CUTAWAY_KERNELS_HOME", str(tmp_path / "kernels"))
    monkeypatch.delenv("CUTAWAY_KERNELS")
    stand_in.gate.touch()
    code = "from cutaway.ops.cpu.first_use import start; print(start())"
    begun = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert begun.stdout == "True\n"  # and its process has ended, while the other waits at the gate
    until(lambda: stand_in.compiled == 1)
    assert look("").state == "building"
    assert start()  # comes to nothing: somebody is at it
    time.sleep(0.5)
    assert stand_in.compiled == 1
    stand_in.gate.unlink()
    until(lambda: look("").state == "built")
    until(lambda: not compiler.being_made())
    assert stand_in.compiled == 1 + sum(file.suffix == ".cpp" for file in first_use.sources())


def test_it_steps_aside():
    code = "import os; from cutaway.ops.cpu.first_use import step_aside; step_aside(); print(os.nice(0))"
    group = Path("/proc/self/autogroup")
    code += f"\nif os.path.exists({str(group)!r}): print(open({str(group)!r}, encoding='utf-8').read())"
    before = group.read_text(encoding="utf-8") if group.exists() else ""
    for session in (True, False):
        told = {"start_new_session": session, "capture_output": True, "encoding": "utf-8", "check": True}
        nice, *groups = subprocess.run([sys.executable, "-c", code], **told).stdout.split("\n", 1)
        assert int(nice) == min(19, os.nice(0) + 19)
        if before and session and " nice " in groups[0]:
            assert groups[0].split()[-1] == "10"
    if before:  # who did not begin the session leaves it alone: it is everybody's
        assert group.read_text(encoding="utf-8") == before


def test_it_is_small():
    """The process that compiles has no torch in memory."""
    code = "import sys, cutaway.ops.cpu.first_use; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
