"""Strips hold every weight as the blocks have it; rounding activations stays within its bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.absmax import quantise_absmax
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.finite import SCALES
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.scheme import Absmax, precision_named
from cutaway.ops.cpu.pack import GROUP, KINDS, LANES, Strips, rounded


def blocks_of(name: str, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Any bits at all, under scales of ordinary size."""
    format, generator = FORMATS[name], torch.Generator().manual_seed(seed)
    shape = (rows, columns // format.weights, format.bytes)
    blocks = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    first, end = SCALES[name]
    scales = torch.randn(*shape[:2], (end - first) // 2, generator=generator) * 0.01
    blocks[..., first:end] = scales.half().view(torch.uint8)
    return blocks.flatten(1)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 64])
@pytest.mark.parametrize("name", FORMATS)
def test_every_weight_is_what_the_blocks_stand_for_bit_for_bit(name, rows):
    blocks = blocks_of(name, rows, 512 if FORMATS[name].weights == 256 else 96)
    assert torch.equal(Strips.of(blocks, FORMATS[name]).weights(), dequantise(blocks, FORMATS[name]))


def test_a_matrix_of_many_slabs(monkeypatch):
    monkeypatch.setattr("cutaway.ops.cpu.pack.slabs", lambda rows, columns, multiple: (slice(0, 32), slice(32, 39)))
    blocks = blocks_of("q4_1", 39, 64)
    assert torch.equal(Strips.of(blocks, FORMATS["q4_1"]).weights(), dequantise(blocks, FORMATS["q4_1"]))
    plain = torch.randn(39, 40).half()
    assert torch.equal(Strips.plain(plain).weights(), plain.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (16, 32), (37, 45), (5, 100)])
def test_plain_weights_of_any_shape_stay_themselves(dtype, rows, columns):
    w_RC = torch.randn(rows, columns).to(dtype)
    assert torch.equal(Strips.plain(w_RC).weights(), w_RC.float())


def test_strips_of_other_dtypes_are_refused():
    with pytest.raises(BadInput, match="float64"):
        Strips.plain(torch.ones(2, 2, dtype=torch.float64))


def test_the_layout_is_the_one_that_is_drawn():
    """Half-bytes of q4_0: byte b of row r's lane in vector v holds columns 8 v + b and, above it, 8 v + b + 4."""
    blocks = blocks_of("q4_0", LANES, GROUP)
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    q_RC = torch.cat((low, high), dim=1)  # q4_0 has columns 0-15 in its low half-bytes
    codes = Strips.of(blocks, FORMATS["q4_0"]).codes.view(4, LANES, 4)
    for vector, row, byte in ((0, 0, 0), (1, 3, 2), (3, 15, 3)):
        code = int(codes[vector, row, byte])
        assert (code & 15, code >> 4) == (int(q_RC[row, 8 * vector + byte]), int(q_RC[row, 8 * vector + byte + 4]))


def test_a_copy_takes_no_more_than_its_kind_says():
    """Bits of a weight: 4, 5, 6 or 8, and 16 or 32 for each scale and offset of 32 (or 16) columns."""
    for name, bits in {
        "q4_0": 4.5,
        "q4_1": 5,
        "q5_0": 5.5,
        "q8_0": 8.5,
        "q5_1": 6,
        "q4_k": 6,
        "q5_k": 7,
        "q6_k": 8,
    }.items():
        strips = Strips.of(blocks_of(name, 32, 512), FORMATS[name])
        held = [one for one in (strips.codes, strips.scales, strips.offsets) if one is not None]
        assert sum(one.nbytes for one in held) * 8 == bits * 32 * 512


@pytest.mark.parametrize(
    "asked", ["int8", "int4", "int8:group=64", "int4:group=32", "int8:asymmetric", "int4:group=96,asymmetric"]
)
def test_our_own_rounding_bit_for_bit(asked):
    """A row's or a wide group's scale stands once for each 32 columns."""
    scheme = precision_named(asked)
    assert isinstance(scheme, Absmax)
    blocks, form = quantise_absmax(torch.randn(37, 192), scheme)
    assert Strips.fits(form, 37)
    assert torch.equal(Strips.of(blocks, form).weights(), dequantise(blocks, form))


def test_groups_that_no_scale_of_32_columns_serves_are_left_alone():
    for asked, columns in (("int8:group=48", 96), ("int8", 40)):
        scheme = precision_named(asked)
        assert isinstance(scheme, Absmax) and not Strips.fits(scheme.format(columns), 1)


@pytest.mark.parametrize("name", ["q4_0", "q6_k"])
def test_a_run_of_rows_is_in_the_same_memory(name):
    blocks = blocks_of(name, 70, 256)
    whole = Strips.of(blocks, FORMATS[name])
    run = whole.run(32, 38)
    assert run is not None and torch.equal(run.weights(), dequantise(blocks, FORMATS[name])[32:])
    assert run.codes.untyped_storage().data_ptr() == whole.codes.untyped_storage().data_ptr()
    assert whole.run(8, 16) is None and whole.run(0, 40) is None


def test_every_format_has_a_kind_or_is_refused():
    assert set(FORMATS) <= set(KINDS)
    assert not Strips.fits(FORMATS["q4_0"], 0)


@given(st.integers(1, 5), st.integers(1, 100), st.integers(0, 2**30), st.sampled_from([1e-6, 1.0, 1e6]))
def test_activations_are_off_by_half_a_scale_at_most(rows, columns, seed, size):
    x_NC = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    x = rounded(x_NC)
    back = (x.codes_NG * x.scales_NG[..., None]).flatten(1)[:, :columns]
    scale = x.scales_NG.repeat_interleave(GROUP, 1)[:, :columns]
    # x / scale and scale * code are each rounded to 24 bits: codes of up to 127 move by 127 / 2^23 of a scale.
    assert bool(((back - x_NC).abs() <= scale * (0.5 + 2e-5)).all())
    assert int(x.codes_NG.abs().max()) <= 127


def test_a_group_of_zeros_has_the_scale_zero():
    x = rounded(torch.zeros(2, 40))
    assert not x.codes_NG.any() and not x.scales_NG.any()
