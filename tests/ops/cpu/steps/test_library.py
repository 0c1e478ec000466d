"""Each step against float64, on the best set and on each lesser one that this CPU has; and what it is refused."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput, CutawayError
from cutaway.lab.compare.matmul_steps import Matrix, allowed
from cutaway.ops.cpu import build
from cutaway.ops.cpu.build import Kernels
from cutaway.ops.cpu.pack import GROUP, LANES, rounded
from cutaway.ops.cpu.steps import library
from cutaway.ops.cpu.steps.library import find_steps, multiply_adds, product, read, sources, steps

NATIVE = ("scalar", "vector", "int8", "prefetch")


@pytest.fixture(params=["on", pytest.param("avx2", marks=pytest.mark.proof)])
def here(request, monkeypatch):
    """The steps for a set; skipped where it cannot be had."""
    found = find_steps(request.param)
    if found.library is None:
        pytest.skip(f"no kernels here: {found.why}")
    monkeypatch.setattr(library, "steps", lambda: found)
    return found


def made(step: str, matrix: Matrix, x_NC: torch.Tensor) -> torch.Tensor:
    if step == "scalar":
        return product(step, x_NC, matrix.blocks, None, matrix.outputs)
    strips = matrix.strips()
    return product(step, x_NC, strips.codes, strips.scales, matrix.outputs)


def rows(count: int, columns: int) -> torch.Tensor:
    return torch.randn(count, columns, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("step", NATIVE)
def test_a_step_is_the_exact_product_within_what_rounding_can_do(here, step):
    for outputs, inputs in ((16, 32), (48, 160), (64, 1024)):
        matrix = Matrix(outputs, inputs, seed=outputs)
        w_RC = matrix.weights()
        for count in (1, 2, 5, 16):
            x_NC = rows(count, inputs)
            off_NR = (made(step, matrix, x_NC).double() - x_NC.double() @ w_RC.double().T).abs()
            assert bool((off_NR <= allowed(x_NC, w_RC, step not in ("scalar", "vector"))).all()), (outputs, count)


def test_int8_steps_differ_from_their_rounded_activations_by_fp32_alone(here):
    """Integers are exact: the bound of the step above is of x's rounding, and this one is not."""
    matrix, x_NC = Matrix(48, 160, seed=1), rows(5, 160)
    x = rounded(x_NC)
    restored_NC = (x.codes_NG * x.scales_NG[..., None]).flatten(1)
    off_NR = (made("int8", matrix, x_NC).double() - restored_NC.double() @ matrix.weights().double().T).abs()
    assert bool((off_NR <= allowed(restored_NC, matrix.weights(), False)).all())


def test_prefetching_changes_no_bit(here):
    matrix, x_NC = Matrix(64, 320, seed=2), rows(3, 320)
    assert torch.equal(made("int8", matrix, x_NC), made("prefetch", matrix, x_NC))


@pytest.mark.parametrize("step", NATIVE)
def test_the_number_of_threads_changes_no_bit(here, step):
    matrix, x_NC, before = Matrix(80, 96, seed=3), rows(2, 96), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(made(step, matrix, x_NC))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_row_of_zeros_has_no_scale(here):
    for step in NATIVE:
        assert not made(step, Matrix(16, 64, seed=0), torch.zeros(2, 64)).any()


def test_memory_is_read_to_its_end(here):
    """The sum of its words; what is behind the last whole 256 bytes is left."""
    words = torch.randint(-(2**62), 2**62, (3 * 32 + 5,), generator=torch.Generator().manual_seed(0))
    assert read(words) == sum(words[:96].tolist()) % 2**64
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert read(words) == sum(words[:96].tolist()) % 2**64
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("kind", "lanes"), [("fp32", 16), ("int8", 64)])
def test_multiply_adds_are_all_done(here, kind, lanes):
    """As many as rounds and threads ask for. (Whether each is an instruction of its own, only times would tell.)"""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        once = multiply_adds(kind, 1)
        assert once in (12 * 1024 * lanes, 5 * 1024 * lanes) and multiply_adds(kind, 7) == 7 * once
        torch.set_num_threads(3)
        assert multiply_adds(kind, 7) == 21 * once
    finally:
        torch.set_num_threads(before)


def test_what_does_not_fit_is_refused(here):
    matrix = Matrix(16, 64, seed=0)
    strips = matrix.strips()
    with pytest.raises(BadInput, match="whole groups of 32"):
        product("int8", torch.ones(1, 40), strips.codes, strips.scales, 16)
    with pytest.raises(BadInput, match="whole groups"):
        product("int8", torch.ones(1, 64, dtype=torch.float64), strips.codes, strips.scales, 16)
    with pytest.raises(BadInput, match="no 32 x 64 matrix of q4_0"):
        product("int8", torch.ones(1, 64), strips.codes, strips.scales, 32)


def test_without_a_compiler_it_says_why(monkeypatch):
    monkeypatch.setattr(
        library, "find_kernels", lambda asked: Kernels(state="impossible", why="no C++ compiler is here")
    )
    assert find_steps("on").why == "no C++ compiler is here"
    monkeypatch.setattr(library, "steps", lambda: find_steps("on"))
    with pytest.raises(CutawayError, match="no steps in C\\+\\+ here: no C\\+\\+ compiler"):
        read(torch.ones(64))


def test_the_layout_is_the_one_that_steps_count_on():
    assert (GROUP, LANES) == (32, 16)
    names = {file.name for file in sources()}
    assert {"scalar.cpp", "vector.cpp", "int8.cpp", "limits.cpp", "pool.cpp"} == names
    assert build.kernels is not steps
