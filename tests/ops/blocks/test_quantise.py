"""Rounding gives ggml's bytes; what cannot be rounded is refused; numbers survive the round trip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import quants
from gguf.constants import GGMLQuantizationType
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks import quantise as module
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS, PLAIN, format_named
from cutaway.ops.blocks.quantise import ROUND, quantise


def weights(rows: int = 50, columns: int = 192) -> Tensor:
    """Normal weights with the awkward ones among them: zeros, ties, one sign only, outliers, tiny, exact halves."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, columns, generator=generator)
    x[0] = 0
    x[1, :64] = 0.75
    x[2, ::2], x[2, 1::2] = 1.5, -1.5
    x[3] = x[3].abs() + 1
    x[4] = -x[4].abs()
    x[5, 7] = 4000
    x[6] *= 1e-6
    x[7] *= 1e-30
    x[8] = torch.arange(columns) % 32 * 0.5 - 3.5
    x[9] = torch.arange(columns) % 2 * 127 - torch.arange(columns) % 32 + 0.5
    x[10] = 1e-44
    return x


@pytest.mark.parametrize("name", ROUND)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the twin divides by scales that overflow
def test_equals_the_twin_byte_for_byte(name: str) -> None:
    x = weights()
    x[10] = 0  # 1 / d overflows there, and the twin's bytes are undefined
    theirs = quants.quantize(x.numpy(), GGMLQuantizationType[name.upper()])
    assert np.array_equal(quantise(x, FORMATS[name]).numpy(), theirs)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_formats_are_plain_casts(name: str) -> None:
    x = weights()
    theirs = quants.quantize(x.numpy(), GGMLQuantizationType[name.upper()]).view(np.uint8)
    assert np.array_equal(quantise(x, PLAIN[name]).numpy(), theirs)


@pytest.mark.parametrize(("name", "levels"), [("q8_0", 127), ("q4_0", 8), ("q4_1", 15), ("q5_0", 16), ("q5_1", 31)])
def test_no_weight_moves_by_more_than_a_step(name: str, levels: int) -> None:
    x = weights()
    back = dequantise(quantise(x, FORMATS[name]), FORMATS[name])
    blocks, moved = x.view(-1, 32), (back - x).abs().view(-1, 32)
    low, high = blocks.aminmax(dim=1, keepdim=True)
    reach = high - low if name.endswith("_1") else blocks.abs().amax(dim=1, keepdim=True)
    # Half a step of rounding, a whole one at the level without a mirror image; fp16 rounds scale and minimum by 2^-11
    # of themselves, and by 2^-25 at least, which the level multiplies.
    step = reach / levels * (0.5 if name.endswith("_1") or name == "q8_0" else 1.0)
    fp16 = 2**-11 * (reach + blocks.abs().amax(dim=1, keepdim=True)) + 2**-25 * (levels + 1)
    assert (moved <= 1.01 * (step + fp16)).all()  # the hundredth: a rounded scale makes the steps longer, too


@pytest.mark.parametrize("name", [*ROUND, *PLAIN])
def test_chunks_shapes_and_dtypes_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    format = format_named(name)
    x = weights().half().view(5, 10, 192).clamp(-2000, 2000)
    whole = quantise(x.float(), format)
    assert whole.shape == (5, 10, format.row_bytes(192))
    monkeypatch.setattr(module, "CHUNK", 7 * 32)
    assert torch.equal(quantise(x, format), whole)
    assert torch.equal(quantise(x.transpose(0, 1), format), whole.transpose(0, 1))


@pytest.mark.parametrize("name", ROUND)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e9])
def test_what_no_scale_can_hold_is_refused(name: str, value: float) -> None:
    x = weights()
    x[20, 33] = value
    with pytest.raises(BadInput, match="not finite, or too large"):
        quantise(x, FORMATS[name])


def test_rows_must_end_on_a_block() -> None:
    with pytest.raises(BadInput, match="a row of 48 weights"):
        quantise(torch.zeros(2, 48), FORMATS["q8_0"])


def test_formats_that_are_only_read_are_named() -> None:
    with pytest.raises(BadInput, match="reads q6_k but does not write it"):
        quantise(torch.zeros(2, 256), FORMATS["q6_k"])
