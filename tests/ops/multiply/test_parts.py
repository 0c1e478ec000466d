"""Parts put together again are the weights, to the last bit; slabs cover all rows once."""

from __future__ import annotations

import pytest
import torch

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.multiply.parts import APART, slabs, take_apart

ABSMAX = ("int8:tensor", "int8:group=64,asymmetric", "int4:row", "int4:row,asymmetric")


@pytest.mark.parametrize("name", [*FORMATS, *ABSMAX])
def test_parts_make_the_weights(name, matrix):
    packed = matrix(name, 5, 512)
    parts = take_apart(packed.blocks, packed.format)
    q = parts.q_RC.float().unflatten(1, (-1, parts.group)) - parts.centre
    w = q * parts.scale_RG[:, :, None]
    if parts.offset_RG is not None:
        w = w + parts.offset_RG[:, :, None]
    found = dequantise(packed.blocks, packed.format)
    if packed.format.name.endswith("z"):  # s q - s z here, s (q - z) there: one rounding more
        torch.testing.assert_close(w.flatten(1), found, rtol=0.0, atol=2.0**-22 * float(found.abs().max()))
        return
    assert torch.equal(w.flatten(1), found)


def test_every_format_can_be_taken_apart():
    assert APART.keys() == {*FORMATS, "int8", "int4", "int8z", "int4z"}


@pytest.mark.parametrize("rows, columns, multiple", [(1, 32, 1), (1000, 4096, 64), (100, 1 << 20, 16), (64, 32, 64)])
def test_slabs_cover_every_row_once(rows, columns, multiple):
    found = list(slabs(rows, columns, multiple=multiple))
    assert [row for slab in found for row in range(slab.start, slab.stop)] == list(range(rows))
    assert all((slab.stop - slab.start) % multiple == 0 for slab in found[:-1])


def test_no_rows_make_no_slabs():
    assert list(slabs(0, 32)) == []
