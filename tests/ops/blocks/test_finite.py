from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.finite import SCALES, finite
from cutaway.ops.blocks.format import FORMATS


def test_every_format_says_where_its_scales_are():
    assert SCALES.keys() == {*FORMATS, "int8", "int4", "int8z", "int4z"}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_bad_scale_is_found_wherever_it_is(name, bad):
    format = FORMATS[name]
    first, end = SCALES[name]
    sound = torch.zeros(3, 2 * format.bytes, dtype=torch.uint8)
    assert finite(sound, format)
    for row, block, place in [(0, 0, first), (2, 1, end - 2)]:
        blocks = sound.clone()
        start = block * format.bytes + place
        blocks[row, start : start + 2] = torch.from_numpy(np.array([bad], dtype=np.float16).view(np.uint8))
        blocks[row, block * format.bytes + (format.bytes // 2 if first == 0 else 0)] = 1  # an integer that is not zero
        assert not finite(blocks, format)


@pytest.mark.parametrize("name", FORMATS)
def test_it_agrees_with_the_numbers_on_random_bytes(name):
    format = FORMATS[name]
    generator = torch.Generator().manual_seed(3)
    seen = set()
    for _ in range(60):
        # One block in a row: a random fp16 scale is NaN or infinite one time in 32.
        blocks = torch.randint(0, 256, (4, format.bytes), dtype=torch.uint8, generator=generator)
        answer = finite(blocks, format)
        assert answer == bool(dequantise(blocks, format).isfinite().all())
        seen.add(answer)
    assert seen == {True, False}


@pytest.mark.parametrize("name", FORMATS)
def test_the_largest_finite_scales_are_sound(name):
    format = FORMATS[name]
    first, end = SCALES[name]
    blocks = torch.full((1, format.bytes), 0x7F, dtype=torch.uint8)
    largest = torch.from_numpy(np.array([65504.0], dtype=np.float16).view(np.uint8))
    blocks[0, first:end] = largest.repeat((end - first) // 2)
    assert finite(blocks, format)
    assert bool(dequantise(blocks, format).isfinite().all())
