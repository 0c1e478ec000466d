from __future__ import annotations

import os

import pytest
import torch

from cutaway.base.errors import CutawayError
from cutaway.lab.compare import matmul_cell
from cutaway.lab.compare.alone import ask
from cutaway.lab.compare.matmul_cell import LEAST, MACHINE, checked, machine, measure, taken
from cutaway.lab.compare.matmul_steps import Matrix
from cutaway.ops.cpu.build import Kernels
from cutaway.ops.cpu.instructions import OFF, VARIABLE

ORDER = {"shape": (64, 64), "memory": 40_000, "seconds": 0.001, "threads": 1, "seed": 0, "kernels": None}


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """`measure` is made for a process of its own: it sets what holds for all of it."""
    monkeypatch.setenv(VARIABLE, "")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_step_is_timed_for_each_number_of_rows():
    found = measure("torch", (1, 3), **ORDER)
    assert set(found) == {"1", "3"} and os.environ[VARIABLE] == OFF
    one, three = found["1"], found["3"]
    assert one["operations"] == 2 * 64 * 64 and three["operations"] == 3 * one["operations"]
    assert one["bytes"] == three["bytes"] == 4 * 64 * 64 and one["copies"] == 3  # 16,384 bytes each
    assert 0 < one["seconds"] <= one["median"] and one["calls"] >= LEAST and 0 <= one["error"] <= 1


def test_a_wrong_product_is_not_timed():
    matrix, x_NC = Matrix(16, 32, seed=0), torch.ones(1, 32)
    right = x_NC @ matrix.weights().T
    assert checked("torch", lambda x: right, x_NC, matrix) <= 1
    wrong = right.clone()
    wrong[0, 7] += 1e-3
    with pytest.raises(CutawayError, match=r"torch: a product is off by .* it is not timed"):
        checked("torch", lambda x: wrong, x_NC, matrix)
    with pytest.raises(CutawayError, match="is off by nan"):
        checked("torch", lambda x: right * float("nan"), x_NC, matrix)


def test_calls_take_turns_and_the_first_is_not_counted():
    called = []
    found = taken([lambda: called.append(0), lambda: called.append(1)], 0.0)
    assert called == [1, 0, 1, 0] and found["calls"] == 3
    assert found["seconds"] <= found["median"]


def test_the_machine_is_measured_with_and_without_a_compiler(monkeypatch):
    found = machine(1000, 8000, 0.0)
    assert found["torch_sum"] > 0 and found["torch_fp32"] > 0
    assert found["torch_int8"] is None or found["torch_int8"] > 0
    monkeypatch.setattr(matmul_cell, "steps", lambda: Kernels(why="no compiler"))
    found = machine(1000, 8000, 0.0)
    assert found["read_loop"] is found["registers_fp32"] is found["registers_int8"] is None and found["torch_sum"] > 0


def test_in_a_process_of_its_own_it_is_the_same():
    found = ask("cutaway.lab.compare.matmul_cell", {"step": "numpy", "rows": [2], **ORDER}, threads=1)
    assert found["2"]["operations"] == 2 * 2 * 64 * 64
    assert MACHINE not in found
