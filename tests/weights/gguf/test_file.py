"""A tensor's bytes are views of the mapped file: exact, read-only, and torch sees them without a copy or a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS, PLAIN
from cutaway.ops.blocks.quantise import quantise
from cutaway.weights.gguf.file import GgufFile
from cutaway.weights.gguf.reader import read_gguf
from cutaway.weights.gguf.writer import write_gguf

WEIGHTS = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def file(tmp_path: Path) -> GgufFile:
    whole, packed = WEIGHTS.numpy(), quantise(WEIGHTS, FORMATS["q8_0"]).numpy()
    tensors = (("whole", (2, 3, 64), "f32", whole), ("packed", (2, 3, 64), "q8_0", packed))
    write_gguf(tmp_path / "a.gguf", {}, tensors)
    return read_gguf(tmp_path / "a.gguf")


def test_data_is_a_read_only_view_of_the_mapping(file: GgufFile) -> None:
    data = file.tensors["whole"].data
    assert isinstance(data, np.memmap)
    assert data.dtype == np.uint8 and data.shape == (WEIGHTS.numel() * 4,)
    assert np.array_equal(data.view(np.float32).reshape(2, 3, 64), WEIGHTS.numpy())
    assert np.shares_memory(data, file.tensors["whole"].file)
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 1


def test_torch_sees_rows_of_bytes(file: GgufFile) -> None:
    packed = file.tensors["packed"].to_torch()
    assert packed.dtype == torch.uint8 and packed.shape == (2, 3, 2 * 34)
    assert packed.data_ptr() == file.tensors["packed"].data.ctypes.data
    assert torch.equal(dequantise(file.tensors["whole"].to_torch(), PLAIN["f32"]), WEIGHTS)
    assert torch.allclose(dequantise(packed, FORMATS["q8_0"]), WEIGHTS, atol=WEIGHTS.abs().max().item() / 127)


def test_nothing_large_is_shown(file: GgufFile) -> None:
    assert len(repr(file)) < 400 and len(repr(file.tensors["whole"])) < 200
