"""Rows of a packed table against the readable unpacking, bit for bit, in every format."""

from __future__ import annotations

import pytest
import torch

from cutaway.ops.blocks.format import FORMATS, PLAIN
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.cpu.embed import embed_kernel, embed_readable


@pytest.mark.parametrize("name", [*FORMATS, *PLAIN])
def test_every_format(kernels, name):
    torch.manual_seed(0)
    form = (FORMATS | PLAIN)[name]
    if name in PLAIN:
        dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[name]
        blocks = torch.randn(9, 512).to(dtype).view(torch.uint8)
    else:
        try:
            blocks = quantise(torch.randn(9, 512), form)
        except Exception:  # no writer of this format: any bytes are a block, if its scales are finite
            blocks = torch.randint(0, 256, (9, 512 // form.weights, form.bytes), dtype=torch.uint8)
            for place in (0, 2) if name != "q6_k" else (208,):
                blocks[..., place : place + 2] = torch.randn(9, 2).half().view(torch.uint8).view(9, 2, 2)[:, :, :]
            blocks = blocks.flatten(1)
    ids = torch.tensor([8, 0, 3, 3])
    torch.testing.assert_close(embed_kernel(blocks, form, ids), embed_readable(blocks, form, ids), rtol=0, atol=0)
    scaled = embed_kernel(blocks, form, ids, 1.5)
    torch.testing.assert_close(scaled, embed_readable(blocks, form, ids, 1.5), rtol=0, atol=0)


def test_no_ids(kernels):
    assert embed_kernel(torch.zeros(3, 18, dtype=torch.uint8), FORMATS["q4_0"], torch.empty(0)).shape == (0, 32)
