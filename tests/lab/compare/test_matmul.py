from __future__ import annotations

from dataclasses import replace

import pytest

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.cli.compare.matmul import STEPS as TYPED
from cutaway.lab.compare import matmul
from cutaway.lab.compare.folder import Folder, measured
from cutaway.lab.compare.kinds import VALUES
from cutaway.lab.compare.matmul import MatmulComparison
from cutaway.lab.compare.matmul_steps import STEPS

WITH = MatmulComparison(outputs=64, inputs=64, memory=1 << 20, seconds=0.1, threads=1, kernels="avx2")
WITHOUT = replace(WITH, kernels=None, lacks="no C++ compiler is here")


@pytest.fixture
def asked(monkeypatch):
    """What would be measured in other processes; answered at once: a step takes half as long as the one before."""
    orders = []

    def ask(module, order, *, threads):
        orders.append(order)
        if order["step"] == "machine":
            limits = {"torch_sum": 1e10, "read_loop": 2e10, "torch_fp32": 5e10, "torch_int8": None}
            return {**limits, "registers_fp32": 1e11, "registers_int8": 4e11}
        seconds = 0.5 ** list(STEPS).index(order["step"])
        told = {"error": 0.25, "outputs": 64, "bytes": 1e6, "copies": 1, "seconds": seconds, "median": 1.0, "calls": 3}
        return {str(count): {**told, "operations": 2e6 * count} for count in order["rows"]}

    monkeypatch.setattr(matmul, "ask", ask)
    return orders


def test_it_is_a_value_and_a_command_types_all_of_it():
    assert from_plain(to_plain(WITH), VALUES) == WITH
    assert tuple(TYPED.split(",")) == tuple(STEPS) == WITH.steps


def test_the_machine_comes_first_then_a_cell_for_each_step():
    assert [cell.key for cell in WITH.cells()] == ["machine", *STEPS]
    assert [cell.key for cell in WITHOUT.cells()] == ["machine", "python", "numpy", "torch"]
    assert all(cell.seconds > 0 for cell in WITH.cells())


def test_from_value_to_page(tmp_path, asked):
    found = {cell.key: figures for cell, figures, _ in measured(WITH, Folder.begin(tmp_path, WITH))}
    assert [list(order["rows"]) for order in asked[1:3]] == [[1], [1, 16]], "Python's loop takes one number of rows"
    assert {order["memory"] for order in asked} == {1 << 20}
    limits, one, sixteen = WITH.tables(found)
    assert limits.rows[0] == ("memory: bytes read", "10 GB/s", "20 GB/s")
    assert limits.rows[2] == ("int8: operations", "–", "400 Gop/s")
    # 2e6 operations and 1e6 bytes in half a second; of 2e10 bytes and 1e11 operations a second, and their roof 4e10.
    assert one.rows[1] == ("numpy", "500 ms", "4 Mop/s", "2 MB/s", "0.01%", "0.004%", "0.01%", "2x", "0.25")
    assert one.rows[0][7] == sixteen.rows[1][7] == "–" and one.rows[7][7] == "2x"
    assert sixteen.rows[0][1:] == ("–",) * 8 and sixteen.rows[7][2] == "4.1 Gop/s"
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "http" not in page and page.count("<circle") == 1 + 2 * 7 and "memory, 20 GB/s" in page
    assert WITH.page({}) and WITH.tables({})[1].rows[0][1] == "–"


def test_without_a_compiler_the_steps_in_cpp_say_so(tmp_path, asked):
    found = {cell.key: figures for cell, figures, _ in measured(WITHOUT, Folder.begin(tmp_path, WITHOUT))}
    assert [order["step"] for order in asked] == ["machine", "python", "numpy", "torch"]
    table = WITHOUT.tables(found)[-1]
    assert [row[-1] for row in table.rows[3:]] == ["not here"] * 5
    assert table.note.startswith("The steps in C++ are missing: no C++ compiler is here")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<circle") == 1 + 2 * 2 and "not here" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": ()}, "steps: names at least one"),
        ({"steps": ("int8", "int8")}, "none twice"),
        ({"steps": ("vektor",)}, 'no step is called "vektor"; did you mean "vector"'),
        ({"rows": (0,)}, "rows: must be 1 to 1,024"),
        ({"outputs": 24}, "outputs: must be a multiple of 16, is 24"),
        ({"inputs": 48}, "inputs: must be a multiple of 32, is 48"),
        ({"inputs": 0}, "inputs: must be a multiple of 32"),
        ({"outputs": 1 << 20, "inputs": 1 << 10}, "outputs: 1,073,741,824 weights are too many"),
        ({"memory": 0}, "memory: must be 1 byte to 64 GB"),
        ({"seconds": 0.0}, "seconds: must be above 0"),
        ({"seconds": float("nan")}, "seconds: must be above 0"),
        ({"threads": 0}, "threads: must be at least 1"),
        ({"seed": -1}, "seed: must be from 0"),
    ],
)
def test_what_cannot_be_is_refused(change, said):
    with pytest.raises(BadInput, match=said):
        replace(WITH, **change)
