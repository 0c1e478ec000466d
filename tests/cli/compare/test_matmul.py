from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cutaway.cli import machine
from cutaway.cli.compare import matmul as command
from cutaway.cli.main import main
from cutaway.lab.compare import matmul

ORDER = ["compare", "matmul", "--outputs", "64", "--inputs", "64", "--memory", "1", "--threads", "1"]


@pytest.fixture
def asked(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_kernels", lambda chosen: ("avx2", None))
    orders = []

    def ask(module, order, *, threads):
        orders.append(order)
        if order["step"] == "machine":
            return {"torch_sum": 1e10, "torch_fp32": 5e10, "torch_int8": 1e11}
        told = {"error": 0.25, "outputs": 64, "bytes": 1e6, "seconds": 0.5, "operations": 2e6}
        return {str(count): told for count in order["rows"]}

    monkeypatch.setattr(matmul, "ask", ask)
    return orders


def test_tables_a_page_and_a_folder(asked, tmp_path, capsys):
    assert main([*ORDER, "--out", "out/table.md"]) == 0
    captured = capsys.readouterr()
    assert "9 cells to measure, about" in captured.err and "page.html" in captured.err
    assert captured.out.count("\nprefetch ") == 2 and captured.out.count("int8: operations") == 1
    assert [order["step"] for order in asked] == [
        *("machine", "python", "numpy", "torch", "scalar", "vector", "int8", "prefetch", "kernel")
    ]
    assert asked[0]["memory"] == 1 << 20 and asked[0]["threads"] == 1
    assert (tmp_path / "comparisons" / "matmul" / "page.html").exists()
    written = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert written.startswith("# Matmul compared, 20") and "| kernel |" in written
    assert main(ORDER) == 0 and len(asked) == 9, "a second time it shows what is there"


def test_each_step_alone_has_a_folder_of_its_own(asked, tmp_path, capsys):
    for only in ("python", "scalar, vector"):
        assert main([*ORDER, "--only", only, "--json", "--rows", "2"]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert list(figures["cells"]) == ["machine", *(name.strip() for name in only.split(","))]
        assert figures["comparison"]["rows"] == [2] and figures["comparison"]["kernels"] == "avx2"
    assert {path.name for path in (tmp_path / "comparisons").iterdir()} == {"matmul-python", "matmul-scalar-vector"}
    assert main([*ORDER, "--only", "python", "--run", "mine"]) == 0 and (tmp_path / "mine" / "page.html").exists()


def test_without_a_compiler_the_rest_runs(asked, monkeypatch, capsys):
    monkeypatch.setattr(command, "_kernels", lambda chosen: (None, "no C++ compiler is here"))
    assert main(ORDER) == 0
    captured = capsys.readouterr()
    assert "4 cells to measure" in captured.err and captured.out.count("not here") == 10
    assert "no C++ compiler is here" in " ".join(captured.err.split())


def test_stopped_it_goes_on(asked, monkeypatch, capsys):
    there = matmul.ask

    def stopped(module, order, *, threads):
        if len(asked) == 3:
            raise KeyboardInterrupt
        return there(module, order, threads=threads)

    monkeypatch.setattr(matmul, "ask", stopped)
    assert main(ORDER) == 130
    assert "interrupted: 6 cells left" in capsys.readouterr().err
    monkeypatch.setattr(matmul, "ask", there)
    assert main(ORDER) == 0
    assert "3 of 9 are there already" in capsys.readouterr().err and len(asked) == 9


def test_the_memory_is_beyond_the_cache_where_nothing_is_told(asked):
    told = [word for word in ORDER if word not in ("--memory", "1")]
    assert main([*told[: told.index("--threads")], "--threads", "1", "--only", "numpy"]) == 0
    assert 32 << 20 <= asked[0]["memory"] <= 512 << 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--only", "numpy,"], "--only: names stand with commas between"),
        (["--only", "vectro"], 'no step is called "vectro"; did you mean "vector"'),
        (["--rows", "1,x"], '--rows: "x" is no number of rows'),
        (["--rows", "0"], "rows: must be 1 to 1,024"),
        (["--outputs", "60"], "outputs: must be a multiple of 16, is 60"),
        (["--memory", "0"], "memory: must be 1 byte to 64 GB"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(asked, tmp_path, capsys, change, said):
    assert main([*ORDER, *change]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not asked and not list(tmp_path.iterdir())


def test_more_memory_than_is_free_is_refused_before_it_is_taken(asked, tmp_path, monkeypatch, capsys):
    here = machine.look()
    for free, total in ((1 << 30, 1 << 35), (None, 1 << 30)):
        there = replace(here, memory_free=free, memory=total)
        monkeypatch.setattr(machine, "look", lambda there=there: there)
        for change, takes in ((["--memory", "2000"], "2.1 GB"), (["--outputs", "65536", "--inputs", "1024"], "2.1 GB")):
            assert main([*ORDER, *change]) == 2
            said = f"--memory: with this matrix a step takes about {takes}, and 1.1 GB of memory are free"
            assert said in " ".join(capsys.readouterr().err.split())
    assert not asked and not list(tmp_path.iterdir())
    monkeypatch.setattr(machine, "look", lambda: replace(here, memory_free=None, memory=None))
    assert main([*ORDER, "--memory", "2000", "--only", "numpy"]) == 0 and asked


def test_kernels_or_why_not(monkeypatch):
    """The command asks once, before anything is measured; for a name that is none it does not ask."""
    from cutaway.ops.cpu.build import Kernels
    from cutaway.ops.cpu.steps import library

    monkeypatch.setattr(library, "steps", lambda: Kernels(why="no C++ compiler is here"))
    assert command._kernels(("python",)) == (None, "no C++ compiler is here")
    monkeypatch.setattr(library, "steps", lambda: Kernels(library=object(), set="avx2"))  # type: ignore[arg-type]
    assert command._kernels(("python",)) == ("avx2", None)
    assert command._kernels(("vectro",)) == (None, None)
