from __future__ import annotations

import pytest
import torch

from cutaway.lab.compare.matmul_steps import LOOP, STEPS, Matrix, allowed, apart, multiply_python
from cutaway.ops.cpu.steps.library import steps


def test_the_loop_by_hand():
    assert multiply_python([[1.0, 2.0], [0.0, -1.0]], [[3.0, 4.0], [5.0, 6.0], [0.0, 1.0]]) == [
        [11.0, 17.0, 2.0],
        [-4.0, -6.0, -1.0],
    ]


@pytest.mark.parametrize("name", STEPS)
def test_every_step_multiplies_the_same_matrix(name):
    if STEPS[name].native and steps().library is None:
        pytest.skip(f"no compiler here: {steps().why}")
    matrix = Matrix(48, 96, seed=1)
    w_RC = matrix.weights()
    for rows in (1, 5):
        x_NC = torch.randn(rows, 96, generator=torch.Generator().manual_seed(rows))
        calls = STEPS[name].copies(matrix, 2)
        for call in calls:
            off_NR = (call(x_NC).double() - x_NC.double() @ w_RC.double().T).abs()
            assert bool((off_NR <= allowed(x_NC, w_RC, STEPS[name].int8)).all())
        assert name == "python" or len(calls) == 2


def test_what_is_allowed_is_not_much():
    """A bound that a wrong product passes would be none: one weight a level off is beyond it, and so is int8 for a step
    that should be exact."""
    matrix = Matrix(16, 64, seed=2)
    x_NC, w_RC = torch.randn(4, 64, generator=torch.Generator().manual_seed(3)), matrix.weights()
    exact_NR = x_NC.double() @ w_RC.double().T
    wrong_RC = w_RC.clone()
    wrong_RC[0, 0] += 0.3
    off_NR = (x_NC.double() @ wrong_RC.double().T - exact_NR).abs()
    assert bool((off_NR[:, 0] > allowed(x_NC, w_RC, False)[:, 0]).all())
    assert float(allowed(x_NC, w_RC, True).max()) < 0.1 * float(exact_NR.abs().max())
    assert bool((allowed(x_NC, w_RC, True) > 100 * allowed(x_NC, w_RC, False)).all())


def test_bytes_are_those_that_are_held():
    matrix = Matrix(32, 64, seed=0)
    strips = matrix.strips()
    assert strips.scales is not None
    for held in (matrix.blocks.nbytes, strips.codes.nbytes + strips.scales.nbytes):
        assert held == 32 * 64 * STEPS["kernel"].bytes == 32 * 64 * STEPS["scalar"].bytes
    assert matrix.weights().nbytes == 32 * 64 * STEPS["torch"].bytes


def test_the_loop_in_python_is_given_less():
    assert STEPS["numpy"].most_outputs(4096, 4096, 16) == 4096
    assert STEPS["python"].most_outputs(4096, 4096, 1) == LOOP // 4096
    assert STEPS["python"].most_outputs(16, 32, 1) == 16 and STEPS["python"].most_outputs(4096, 4096, 1024) == 1


def test_copies_lie_apart():
    first = torch.arange(6.0).view(2, 3)
    copy = apart(first)
    assert torch.equal(copy, first) and copy.data_ptr() != first.data_ptr()
