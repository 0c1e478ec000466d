"""Libraries are made once, whole, by whatever compiler there is; what goes wrong is one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from ctypes import CDLL
from pathlib import Path

import pytest
from filelock import FileLock

from cutaway.ops.cpu import compiler
from cutaway.ops.cpu.compiler import Compiler, Failed, compiled, fault, find, lack
from cutaway.ops.cpu.compiler import made as found

FLAGS = ("-O1",)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CUTAWAY_KERNELS_HOME")
    return tmp_path / "home"


@pytest.fixture
def real() -> Compiler:
    found = find()
    if found is None:
        pytest.skip("no C++ compiler is here")
    return found


@pytest.fixture
def source(tmp_path) -> Path:
    file = tmp_path / "one.cpp"
    file.write_text('extern "C" int answer() { return 42; }\n', encoding="utf-8")
    return file


def counting(tmp_path: Path, real: Compiler) -> tuple[Compiler, Path]:
    """A compiler that notes each of its runs, and takes half a second longer."""
    notes, script = tmp_path / "notes", tmp_path / "compile.py"
    script.write_text(
        "import pathlib, subprocess, sys, time\n"
        f"with pathlib.Path({str(notes)!r}).open('a', encoding='utf-8') as file: file.write('run\\n')\n"
        "time.sleep(0.5)\n"
        f"sys.exit(subprocess.run([*{list(real.command)!r}, *sys.argv[1:]]).returncode)\n",
        encoding="utf-8",
    )
    return Compiler(command=(sys.executable, str(script)), version="counting"), notes


def test_a_library_is_made_once_and_found_from_then_on(home, real, source, tmp_path):
    counted, notes = counting(tmp_path, real)
    first = compiled("one", (source,), FLAGS, counted)
    assert CDLL(str(first)).answer() == 42
    assert first.is_relative_to(home) and compiled("one", (source,), FLAGS, counted) == first
    assert len(notes.read_text(encoding="utf-8").split()) == 2  # compiled, linked


def test_an_edit_compiles_one_file_anew(home, real, source, tmp_path):
    counted, notes = counting(tmp_path, real)
    other, header, deeper = (tmp_path / name for name in ("other.cpp", "a.h", "b.h"))
    other.write_text('#include "a.h"\nextern "C" int other() { return A; }\n', encoding="utf-8")
    header.write_text('#pragma once\n#include "b.h"\n#define A B\n', encoding="utf-8")
    deeper.write_text('#include "a.h"\n#define B 1\n', encoding="utf-8")  # round in a circle
    files, runs = (source, other), [0]

    def compiled_now() -> tuple[int, int]:
        made = CDLL(str(compiled("both", files, FLAGS, counted)))
        runs.append(len(notes.read_text(encoding="utf-8").split()))
        return runs[-1] - runs[-2], made.other()

    assert compiled_now() == (3, 1)  # two, and the link
    deeper.write_text('#include "a.h"\n#define B 2\n', encoding="utf-8")
    assert compiled_now() == (2, 2)
    source.write_text('extern "C" int answer() { return 43; }\n', encoding="utf-8")
    assert compiled_now() == (2, 2)
    deeper.write_text('#include "a.h"\n#define B 1\n', encoding="utf-8")
    assert compiled_now() == (1, 1)  # that object is still there


def test_old_ones_make_room(home, real, source):
    for number in range(compiler.KEPT + 2):
        source.write_text(f'extern "C" int answer() {{ return {number}; }}\n', encoding="utf-8")
        last = compiled("one", (source,), FLAGS, real)
    other = compiled("one-more", (source,), FLAGS, real)
    libraries = set((home / "kernels").glob(f"*{compiler.SUFFIX}"))
    assert {last, other} <= libraries and len(libraries) == compiler.KEPT + 1
    assert len(list((home / "kernels" / "objects").iterdir())) == compiler.KEPT + 1


def test_its_name_tells_source_flags_and_compiler(home, real, source):
    names = {compiled("one", (source,), FLAGS, real)}
    names.add(compiled("one", (source,), ("-O2",), real))
    names.add(compiled("one", (source,), FLAGS, Compiler(command=real.command, version="another")))
    source.write_text('extern "C" int answer() { return 43; }\n', encoding="utf-8")
    changed = compiled("one", (source,), FLAGS, real)
    assert CDLL(str(changed)).answer() == 43
    assert len(names | {changed}) == 4


def test_two_processes_make_it_once(home, real, source, tmp_path):
    counted, notes = counting(tmp_path, real)
    code = (
        "from pathlib import Path; from cutaway.ops.cpu.compiler import Compiler, compiled\n"
        f"made = Compiler(command={counted.command!r}, version='counting')\n"
        f"print(compiled('one', (Path({str(source)!r}),), {FLAGS!r}, made))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, encoding="utf-8") for _ in range(2)
    ]
    paths = {one.communicate()[0] for one in running}
    assert [one.returncode for one in running] == [0, 0] and len(paths) == 1
    assert len(notes.read_text(encoding="utf-8").split()) == 2


def test_nobody_waits_for_ever_for_one_that_does_not_get_on(home, real, source, monkeypatch):
    (home / "kernels").mkdir(parents=True)
    monkeypatch.setattr(compiler, "PATIENCE", 0.1)
    with FileLock(home / "kernels" / compiler.LOCK):
        assert compiler.being_made()
        assert CDLL(str(compiled("one", (source,), FLAGS, real))).answer() == 42
    assert not compiler.being_made()


def test_a_fault_is_one_line_and_leaves_nothing(home, real, source):
    source.write_text("int answer() { return nonsense; }\nint more() { return nonsense; }\n", encoding="utf-8")
    with pytest.raises(Failed, match="nonsense") as caught:
        compiled("one", (source,), FLAGS, real)
    assert "\n" not in str(caught.value)
    left = {file.suffix: file for file in (home / "kernels").rglob("*") if file.is_file()}
    assert left.keys() <= {".lock", ".failed"}
    assert left[".failed"].read_text(encoding="utf-8") == f"{caught.value}\n"
    assert fault("one", (source,), FLAGS, real) == str(caught.value)


def test_a_compiler_that_is_gone_is_told(home, source):
    with pytest.raises(Failed, match="does not run"):
        compiled("one", (source,), FLAGS, Compiler(command=("no-such-compiler",), version="?"))


def test_a_home_that_cannot_be_written_to_is_left_for_a_folder_of_ones_own(tmp_path, monkeypatch, real, source):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("CUTAWAY_KERNELS_HOME", str(tmp_path / "file" / "home"))  # no folder can be in a file
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path))
    made = compiled("one", (source,), FLAGS, real)
    assert CDLL(str(made)).answer() == 42
    assert made.parent.parent == tmp_path and found("one", (source,), FLAGS, real) == made
    assert made.parent.stat().st_mode & 0o077 == 0 or sys.platform == "win32"


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such rights there")
def test_a_temporary_folder_that_others_may_write_to_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path))
    usual = compiler._temporary()
    assert compiler._temporary() == usual
    assert usual in compiler._folders()
    usual.chmod(0o777)
    assert usual not in compiler._folders()
    with pytest.raises(PermissionError, match="others may write there"):
        compiler._temporary()


def test_cxx_names_the_compiler(monkeypatch, real):
    program = shutil.which(real.command[0])
    monkeypatch.setenv("CXX", f"{program} -DPERSON")
    assert find() == Compiler(command=(str(program), "-DPERSON"), version=real.version)
    for nonsense in ("no-such-compiler -O2", 'g++ "'):
        monkeypatch.setenv("CXX", nonsense)
        assert find() is None and lack().startswith(f'CXX names "{nonsense}"')


def test_without_cxx_and_without_a_compiler_it_says_which_are_looked_for(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert find() is None and lack().startswith("no C++ compiler is here (g++, ")


def test_without_a_compiler_there_is_none(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find() is None
