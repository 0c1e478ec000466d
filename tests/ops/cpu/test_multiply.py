"""Kernels against their siblings in torch and against float64; and the forms of `multiply` that run on them."""

from __future__ import annotations

import threading

import pytest
import torch
from tests.ops.cpu.sets import FORCED, forced
from torch import Tensor

from cutaway.base.errors import BadInput, CutawayError
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.finite import SCALES
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.cpu import build, multiply
from cutaway.ops.cpu.build import kernels, library
from cutaway.ops.cpu.multiply import (
    multiply_kernels,
    multiply_kernels_int8,
    narrow_kernels,
    times_exact,
    times_exact_readable,
    times_int8,
    times_int8_readable,
)
from cutaway.ops.cpu.pack import GROUP, Strips, rounded
from cutaway.ops.multiply import narrow as narrow_module
from cutaway.ops.multiply.fast import multiply_fast
from cutaway.ops.multiply.readable import multiply_readable
from cutaway.ops.packed import Joined, Packed

EPSILON = torch.finfo(torch.float32).eps
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 16, 17, 33, 50, 100)  # every size of a tile, what does not fill one, and many


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def packed_of(name: str, rows: int, columns: int, seed: int = 0) -> Packed:
    """Any bits at all, under scales of ordinary size."""
    format, generator = FORMATS[name], torch.Generator().manual_seed(seed)
    shape = (rows, columns // format.weights, format.bytes)
    blocks = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    first, end = SCALES[name]
    scales = torch.randn(*shape[:2], (end - first) // 2, generator=generator) * 0.01
    blocks[..., first:end] = scales.half().view(torch.uint8)
    return Packed(blocks=blocks.flatten(1), format=format)


def bound(x_NC: Tensor, w_RC: Tensor) -> Tensor:
    """What fp32 sums of these products may be off by, in any order: each of C additions rounds a partial sum, which is
    no larger than the sum of all magnitudes. (Higham 2002, section 3.1: C eps sum |x| |w|; a weight's own two roundings
    and those of scales come on top.)"""
    return (x_NC.shape[1] + 8) * EPSILON / 2 * (x_NC.double().abs() @ w_RC.double().abs().T)


@pytest.fixture(params=["", *(pytest.param(name, marks=pytest.mark.proof) for name in FORCED)], ids=["best", *FORCED])
def each(request, monkeypatch) -> str:
    """The best instruction set of this CPU; as a proof, each one that it has."""
    found = forced(request.param)
    if found.library is None:
        pytest.skip(f"{request.param}: {found.why}")
    monkeypatch.setattr(multiply, "library", lambda: found.library)
    return request.param


@pytest.fixture
def here() -> None:
    if library() is None:
        pytest.skip(f"no kernels here: {kernels().why}")


@pytest.mark.parametrize("name", FORMATS)
def test_exact_products_are_fp32_sums(each, name):
    columns = 512 if FORMATS[name].weights == 256 else 160
    packed = packed_of(name, 37, columns)
    strips, w_RC = Strips.of(packed.blocks, packed.format), dequantise(packed.blocks, packed.format)
    for count in ROWS:
        x_NC = random(count, columns, seed=count)
        off = (times_exact(x_NC, strips) - x_NC.double() @ w_RC.double().T).abs()
        assert bool((off <= bound(x_NC, w_RC)).all()), count
        readable = times_exact_readable(x_NC, strips)
        assert bool(((times_exact(x_NC, strips) - readable).abs() <= 2 * bound(x_NC, w_RC)).all()), count


@pytest.mark.parametrize("name", FORMATS)
def test_int8_products_are_those_of_rounded_activations(each, name):
    """Integers are exact, so that the same codes leave fp32's own error; and x's rounding stays within its bound."""
    columns = 512 if FORMATS[name].weights == 256 else 160
    packed = packed_of(name, 37, columns)
    strips, w_RC = Strips.of(packed.blocks, packed.format), dequantise(packed.blocks, packed.format)
    for count in ROWS:
        x_NC = random(count, columns, seed=count)
        x = rounded(x_NC)
        y_NR = times_int8(x_NC, strips)
        restored_NC = (x.codes_NG.double() * x.scales_NG[..., None]).flatten(1)
        # An offset and a scale times q may cancel: each is a sum of its own, so that magnitudes count apart.
        apart_RC = w_RC.abs() + 2 * (strips.weights().abs().amax() if strips.offsets is not None else 0)
        assert bool(((y_NR - restored_NC @ w_RC.double().T).abs() <= bound(restored_NC, apart_RC)).all()), count
        half_NG = x.scales_NG.double() / 2
        stated = half_NG @ w_RC.double().abs().view(37, -1, GROUP).sum(2).T + bound(x_NC, apart_RC)
        assert bool(((y_NR - x_NC.double() @ w_RC.double().T).abs() <= stated).all()), count
        readable = times_int8_readable(x_NC, strips)
        assert bool(((y_NR - readable).abs() <= 2 * bound(restored_NC, apart_RC)).all()), count


@pytest.mark.parametrize("level", [-127, 127])
def test_the_largest_products_do_not_overflow(each, level):
    """All codes at their ends, the sums as large as they get: int16 in between would saturate first."""
    for name, byte in (("q4_0", 0), ("q4_0", 255), ("q8_0", 128), ("q8_0", 127)):
        blocks = packed_of(name, 16, GROUP).blocks
        blocks[:, :2] = torch.tensor([1.0]).half().view(torch.uint8)  # so that nothing is rounded anywhere
        blocks[:, 2:] = byte
        strips = Strips.of(blocks, FORMATS[name])
        x_NC = torch.full((1, GROUP), float(level))
        assert torch.equal(times_int8(x_NC, strips), times_exact_readable(x_NC, strips))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (16, 32), (37, 45), (50, 100)])
def test_plain_weights_of_any_shape(each, dtype, rows, columns):
    w_RC = random(rows, columns).to(dtype)
    strips = Strips.plain(w_RC)
    for count in (1, 2, 5, 17, 40):
        x_NC = random(count, columns, seed=count)
        off = (times_exact(x_NC, strips) - x_NC.double() @ w_RC.double().T).abs()
        assert bool((off <= bound(x_NC, w_RC)).all()), count
    with pytest.raises(BadInput, match="fp32 activations"):
        times_int8(x_NC, strips)


@pytest.mark.parametrize("name", ["q4_0", "q6_k", "q8_0", "float32"])
def test_rows_are_the_same_in_a_tile_and_among_many(each, name):
    """Bit for bit: weights that are turned into floats once for many rows are added up in the same order."""
    if name == "float32":
        strips = Strips.plain(random(53, 288))
    else:
        packed = packed_of(name, 53, 768 if name == "q6_k" else 288)
        strips = Strips.of(packed.blocks, packed.format)
    x_NC = random(116, strips.columns)
    few = torch.cat([times_exact(rows, strips) for rows in x_NC.split(12)])
    assert torch.equal(times_exact(x_NC, strips), few)


@pytest.mark.parametrize("times", [times_exact, times_int8])
def test_a_row_alone_is_the_row_in_a_batch(each, times):
    """To within fp32's rounding: one row's sums are taken in turns."""
    packed = packed_of("q4_1", 48, 96)
    strips, x_NC = Strips.of(packed.blocks, packed.format), random(23, 96)
    alone = torch.cat([times(row, strips) for row in x_NC.split(1)])
    assert bool(((times(x_NC, strips) - alone).abs() <= 4 * bound(x_NC, strips.weights().abs() + 1)).all())


@pytest.mark.parametrize("times", [times_exact, times_int8])
def test_the_number_of_threads_changes_no_bit(here, times):
    packed = packed_of("q4_0", 200, 96)
    strips, before = Strips.of(packed.blocks, packed.format), torch.get_num_threads()
    for count in (1, 5, 40):
        found = []
        try:
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                found.append(times(random(count, 96), strips))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_threads_of_python_do_not_disturb_each_other(here):
    packed = packed_of("q4_1", 320, 96)
    strips = Strips.of(packed.blocks, packed.format)
    inputs = [random(count, 96, seed=count) for count in (1, 3, 20, 40)]
    expected = [times_int8(x, strips) for x in inputs]
    faults: list[int] = []

    def work(index: int) -> None:
        for _ in range(25):
            if not torch.equal(times_int8(inputs[index], strips), expected[index]):
                faults.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_what_does_not_fit_is_refused(here):
    packed = packed_of("q4_0", 16, 64)
    strips = Strips.of(packed.blocks, packed.format)
    for x in (torch.ones(1, 32), torch.ones(64)):
        with pytest.raises(BadInput, match="rows of 64 numbers"):
            times_exact(x, strips)
    assert times_exact(torch.ones(0, 64), strips).shape == (0, 16)


@pytest.mark.parametrize("form", [multiply_kernels, multiply_kernels_int8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_forms_multiply_as_the_readable_one(here, form, dtype):
    packed = packed_of("q4_1", 48, 96)
    x_NC = random(7, 96).to(dtype)
    expected = multiply_readable(x_NC.float(), packed)
    got = form(x_NC, packed)
    assert got.dtype == dtype
    # int8 activations move a sum of 96 products by about 1 part in 200; bfloat16 rounds what comes out.
    assert float((got.float() - expected).norm() / expected.norm()) < 0.01


def test_gradients_go_the_way_of_torch(here):
    packed = packed_of("q4_0", 16, 64)
    x = random(3, 64).requires_grad_()
    multiply_kernels_int8(x, packed).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, dequantise(packed.blocks, packed.format).sum(0).expand(3, -1), rtol=1e-5, atol=1e-6)


def test_without_kernels_torch_multiplies(monkeypatch):
    monkeypatch.setattr(multiply, "library", lambda: None)
    packed, x_NC = packed_of("q4_0", 16, 64), random(3, 64)
    expected = multiply_fast(x_NC, packed)
    assert torch.equal(multiply_kernels(x_NC, packed), expected)
    assert torch.equal(multiply_kernels_int8(x_NC, packed), expected)
    assert Strips not in packed.copies
    with pytest.raises(CutawayError, match="no kernels"):
        times_exact(x_NC, packed.strips())


def test_what_parts_compute_in_beside_kernels(monkeypatch):
    """fp32, but for a long prompt; without kernels, or without packed weights, as ever."""
    formats = frozenset({"q4_0"})
    monkeypatch.setattr(narrow_module, "bfloat16_pays", lambda: True)
    monkeypatch.setattr(multiply, "library", lambda: object())
    assert [narrow_kernels(rows, formats) for rows in (1, 16, 127, 128)] == [None, None, None, torch.bfloat16]
    assert narrow_kernels(1, frozenset()) is None
    monkeypatch.setattr(multiply, "library", lambda: None)
    assert [narrow_kernels(rows, formats) for rows in (1, 127, 128)] == [torch.bfloat16, None, torch.bfloat16]


def test_a_long_prompt_in_bfloat16_is_torchs(here):
    packed, x_NC = packed_of("q4_0", 16, 64), random(128, 64).bfloat16()
    assert torch.equal(multiply_kernels(x_NC, packed), multiply_fast(x_NC, packed))
    assert Strips not in packed.copies


def test_joined_matrices_hold_their_strips_once(here):
    parts = tuple(packed_of("q4_0", rows, 64, seed=rows) for rows in (32, 16, 24))
    joined = Joined(parts)
    x_NC = random(2, 64)
    apart = torch.cat([multiply_kernels(x_NC, one) for one in parts], dim=1)
    assert torch.equal(multiply_kernels(x_NC, joined), apart)
    whole = joined.strips()
    assert whole is not None
    memory = {part.copies[Strips].codes.untyped_storage().data_ptr() for part in parts}
    assert memory == {whole.codes.untyped_storage().data_ptr()}
    assert torch.equal(torch.cat([multiply_kernels(x_NC, one) for one in parts], dim=1), apart)


def test_the_variable_turns_the_kernels_off(monkeypatch):
    monkeypatch.setenv(build.VARIABLE, "off")
    monkeypatch.setattr(build, "_found", None)
    packed = packed_of("q4_0", 16, 64)
    multiply_kernels(random(1, 64), packed)
    assert Strips not in packed.copies
