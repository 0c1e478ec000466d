"""Quantised matrices of every format, with weights of the size that models have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cutaway.ops.blocks.absmax import quantise_absmax
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import ROUND, quantise
from cutaway.ops.blocks.scheme import Absmax, precision_named
from cutaway.ops.packed import Packed

# Where the fp16 scales of the formats that we do not write begin.
SCALES = {"q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,)}


@pytest.fixture
def matrix() -> Callable[..., Packed]:
    """`matrix("q4_1", rows, columns)`, `matrix("int4:group=64", ...)`: random weights of deviation about 0.05."""

    def make(name: str, rows: int, columns: int, seed: int = 0) -> Packed:
        generator = torch.Generator().manual_seed(seed)
        if isinstance(scheme := precision_named(name) if name.startswith("int") else None, Absmax):
            blocks, format = quantise_absmax(torch.randn(rows, columns, generator=generator) * 0.05, scheme)
            return Packed(blocks=blocks, format=format)
        format = FORMATS[name]
        if name in ROUND:
            blocks = quantise(torch.randn(rows, columns, generator=generator) * 0.05, format)
            return Packed(blocks=blocks, format=format)
        shape = (rows, columns // format.weights, format.bytes)
        blocks = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        for place in SCALES[name]:
            scale = torch.rand(*shape[:2], 1, generator=generator) * 2e-4 + 1e-5
            blocks[..., place : place + 2] = scale.half().view(torch.uint8)
        return Packed(blocks=blocks.flatten(1), format=format)

    return make
