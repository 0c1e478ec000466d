"""Both forms give ggml's numbers, bit for bit, on random blocks; shapes, slices and `out` change nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from gguf import quants
from gguf.constants import GGMLQuantizationType
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks import dequantise as module
from cutaway.ops.blocks.dequantise import dequantise, dequantise_readable, dequantise_rows
from cutaway.ops.blocks.format import FORMATS, PLAIN, BlockFormat, format_named

NAMES = [*FORMATS, *PLAIN]
# Where the fp16 scales (and minima) of a block begin, or the two bytes with the exponent of a plain number.
SCALES = {"q4_0": (0,), "q4_1": (0, 2), "q5_0": (0,), "q5_1": (0, 2), "q8_0": (0,)}
SCALES |= {"q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,), "f16": (0,), "bf16": (0,), "f32": (2,)}
FORMS = pytest.mark.parametrize("form", [dequantise, dequantise_readable])


def random_blocks(format: BlockFormat, *shape: int, seed: int = 0) -> Tensor:
    """Random bytes (..., n x bytes) with finite scales: an exponent of all ones loses a bit."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (*shape, format.bytes), dtype=torch.uint8, generator=generator)
    for place in SCALES.get(format.name, ()):
        high = blocks[..., place + 1]
        high[(high & 0x7C) == 0x7C] ^= 0x04
    return blocks.flatten(-2)


def twin(blocks: Tensor, format: BlockFormat) -> np.ndarray:
    """What the gguf package makes of the same bytes."""
    with np.errstate(all="ignore"):
        return quants.dequantize(blocks.numpy(), GGMLQuantizationType[format.name.upper()])


def assert_same_bits(ours: Tensor, theirs: np.ndarray) -> None:
    assert ours.dtype == torch.float32
    assert ours.shape == theirs.shape
    nan = np.isnan(theirs)
    assert np.array_equal(ours.isnan().numpy(), nan)
    assert np.array_equal(ours.numpy().view(np.int32)[~nan], np.ascontiguousarray(theirs).view(np.int32)[~nan])


@FORMS
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_twin_bit_for_bit(name: str, form: Callable) -> None:
    format = format_named(name)
    blocks = random_blocks(format, 37, 24)
    assert_same_bits(form(blocks, format), twin(blocks, format))


@FORMS
@pytest.mark.parametrize("name", FORMATS)
def test_a_scale_that_is_not_finite_stays_visible(name: str, form: Callable) -> None:
    format = FORMATS[name]
    blocks = random_blocks(format, 2, 3)
    for place in SCALES[name]:
        blocks[0, place : place + 2] = torch.tensor([1, 0x7E])  # NaN
        blocks[1, place : place + 2] = torch.tensor([0, 0x7C])  # infinity
    result = form(blocks, format)
    assert result[0, : format.weights].isnan().all()
    assert not result[1, : format.weights].isfinite().any()
    assert result[:, format.weights :].isfinite().all()
    assert_same_bits(result, twin(blocks, format))


@pytest.mark.parametrize("name", FORMATS)
def test_the_fast_form_equals_the_readable_over_several_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    format = FORMATS[name]
    monkeypatch.setattr(module, "CHUNK", 5 * format.weights)
    blocks = random_blocks(format, 4, 3, 2)  # 24 blocks: four full chunks and a rest
    assert torch.equal(dequantise(blocks, format), dequantise_readable(blocks, format))


@FORMS
@pytest.mark.parametrize("name", NAMES)
def test_slices_and_shapes_change_nothing(name: str, form: Callable) -> None:
    format = format_named(name)
    blocks = random_blocks(format, 6, 4, 2)
    whole = dequantise(blocks, format)
    assert whole.shape == (6, 4, 2 * format.weights)
    assert torch.equal(form(blocks[:, 1], format), whole[:, 1])
    assert torch.equal(form(blocks[3], format), whole[3])
    shifted = torch.cat((torch.zeros(1, dtype=torch.uint8), blocks.flatten()))[1:]  # begins at an odd byte
    assert torch.equal(form(shifted, format), whole.flatten())
    assert form(blocks[:0], format).shape == (0, 4, 2 * format.weights)


@pytest.mark.parametrize("name", NAMES)
def test_writes_into_memory_that_is_kept(name: str) -> None:
    format = format_named(name)
    blocks = random_blocks(format, 3, 5)
    kept = torch.full((3, 5 * format.weights), torch.nan)
    assert dequantise(blocks, format, out=kept) is kept
    assert_same_bits(kept, twin(blocks, format))


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_looked_up_while_packed(name: str) -> None:
    format = format_named(name)
    blocks = random_blocks(format, 9, 2)
    ids = torch.tensor([[8, 0, 3], [3, 3, 1]])
    rows = dequantise_rows(blocks, format, ids)
    assert rows.shape == (2, 3, 2 * format.weights)
    assert torch.equal(rows, torch.nn.functional.embedding(ids, dequantise(blocks, format)))


@pytest.mark.parametrize("name", NAMES)
def test_runs_without_data(name: str) -> None:
    format = format_named(name)
    blocks = torch.empty(3, 2 * format.bytes, dtype=torch.uint8, device="meta")
    assert dequantise(blocks, format).shape == (3, 2 * format.weights)


@FORMS
def test_wrong_blocks_are_refused(form: Callable) -> None:
    with pytest.raises(BadInput, match="35 bytes are not a whole number of q8_0 blocks of 34"):
        form(torch.zeros(2, 35, dtype=torch.uint8), FORMATS["q8_0"])
    with pytest.raises(BadInput, match="must be uint8"):
        form(torch.zeros(2, 34), FORMATS["q8_0"])


@pytest.mark.parametrize("out", [torch.empty(2, 31), torch.empty(2, 32).double(), torch.empty(32, 2).T])
def test_a_wrong_out_is_refused(out: Tensor) -> None:
    with pytest.raises(BadInput, match=r"out must be contiguous float32 of shape \(2, 32\)"):
        dequantise(torch.zeros(2, 34, dtype=torch.uint8), FORMATS["q8_0"], out=out)
