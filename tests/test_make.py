from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def make(root, tmp_path, monkeypatch):
    """make.py as a module that believes in a project of its own, and that records commands and does not run them."""
    spec = importlib.util.spec_from_file_location("make_for_test", root / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ran: list[list[str]] = []
    codes: dict[str, int] = {}

    def run(*command, **variables):
        text = " ".join(command)
        ran.append(text)
        if " -m venv " in text:
            Path(module.PYTHON).parent.mkdir(parents=True)
            Path(module.PYTHON).touch()
        return next((code for part, code in codes.items() if part in text), 0)

    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("one", encoding="utf-8")
    venv = tmp_path / ".venv"
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "VENV", str(venv))
    monkeypatch.setattr(module, "STAMP", str(venv / "stamp"))
    monkeypatch.setattr(module, "PYTHON", str(venv / "bin" / "python"))
    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module.subprocess, "call", lambda *words, **more: 0)  # the .venv that is there works
    module.ran, module.codes = ran, codes
    return module


def installs(make) -> list[str]:
    return [command.split()[-1] for command in make.ran if " pip install " in command]


def test_setup_works_once_and_again_when_something_changed(make, tmp_path):
    for _ in range(3):
        make.main(["setup"])
    assert installs(make) == [".[test]"]
    (tmp_path / "constraints.txt").write_text("two", encoding="utf-8")
    make.main(["setup"])
    make.main(["setup"])
    assert installs(make) == [".[test]", ".[test]"]
    assert sum(" -m venv " in command for command in make.ran) == 1


def test_line_ends_of_another_system_change_nothing(make, tmp_path):
    (tmp_path / "constraints.txt").write_bytes(b"a\nb\n")
    here = make.fingerprint()
    (tmp_path / "constraints.txt").write_bytes(b"a\r\nb\r\n")
    assert make.fingerprint() == here


def test_the_demo_needs_the_base_alone_and_takes_what_is_there(make):
    make.main(["demo"])
    assert installs(make) == ["."]
    make.main(["test"])
    make.main(["demo"])
    assert installs(make) == [".", ".[test]"]
    assert sum("cutaway tour" in command for command in make.ran) == 2


def test_a_failed_or_stopped_install_is_done_again(make):
    make.codes["pip install"] = 1
    with pytest.raises(make.Stop, match="pip could not install"):
        make.main(["setup"])
    make.codes.clear()
    make.main(["setup"])
    assert len(installs(make)) == 2


def test_no_way_to_make_a_venv_is_one_clear_line(make):
    make.codes["-m venv"] = 1
    with pytest.raises(make.Stop, match="python3-venv"):
        make.main(["setup"])


def test_test_runs_everything_and_any_failure_counts(make):
    assert make.main(["test"]) == 0
    assert [command.split()[2] for command in make.ran[-4:]] == ["ruff", "ruff", "pyright", "pytest"]
    for part in ("ruff check", "ruff format", "pyright", "pytest"):
        make.codes.clear()
        make.codes[f"-m {part}"] = 1
        make.ran.clear()
        assert make.main(["test"]) == 1
        assert "pytest" in make.ran[-1]  # its closing lines come last whatever failed before


def test_test_with_arguments_is_pytest_with_them(make):
    make.main(["setup"])
    make.ran.clear()
    make.main(["test", "tests/ops", "-x"])
    assert [command.partition(" -m ")[2] for command in make.ran] == ["pytest tests/ops -x"]


def test_a_proof_of_nothing_is_no_success(make):
    make.codes["-m proof"] = 5
    with pytest.raises(make.Stop, match="no test is marked"):
        make.main(["proof"])
    make.codes["-m proof"] = 0
    assert make.main(["proof"]) == 0


def test_bench_lists_and_runs(make, tmp_path, capsys):
    make.main(["bench"])
    assert "no benchmarks yet" in capsys.readouterr().out
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "decode.py").touch()
    make.main(["bench"])
    assert capsys.readouterr().out.split() == ["decode"]
    make.main(["bench", "decode", "--tokens", "8"])
    assert make.ran[-1].endswith("decode.py --tokens 8")
    with pytest.raises(make.Stop, match="there are: decode"):
        make.main(["bench", "nothing"])


def test_an_old_python_gets_one_line(make, monkeypatch):
    monkeypatch.setattr(make, "OLDEST", (99, 0))
    with pytest.raises(make.Stop, match="was started with"):
        make.main(["setup"])
    assert make.ran == []


def call(root, *arguments):
    command = [sys.executable, str(root / "make.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_help_and_a_bad_command_say_what_there_is(root):
    helped, bad, bare = call(root, "--help"), call(root, "tset"), call(root)
    for word in ("setup", "demo", "test", "proof", "bench", "lint", "format"):
        assert word in helped.stdout and word in bad.stdout
    assert (helped.returncode, bad.returncode, bare.returncode) == (0, 2, 2)
    assert bad.stderr == "make.py: there is no command tset\n"


def test_the_makefile_only_calls_make_py(root):
    text = (root / "Makefile").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 4
    assert "make.py $@" in text
