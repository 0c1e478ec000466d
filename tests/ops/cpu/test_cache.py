"""What is written to a store is read back: contiguous and paged, in every precision; impossible stores are refused."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.cache import Store
from cutaway.ops.narrow_row import decode, encode


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("paged", [False, True], ids=["contiguous", "paged"])
def test_written_and_read_back(dtype, paged):
    torch.manual_seed(0)
    width = 18 if dtype == torch.int8 else 16  # a scale of two bytes stands behind each head
    shape = (6, 4, 2, width) if paged else (24, 2, width)
    make = Store.paged if paged else Store.contiguous
    table = torch.tensor([[5, 2, 0], [1, 4, 3]]) if paged else torch.tensor([0, 12])
    store = make(torch.zeros(shape).to(dtype), torch.zeros(shape).to(dtype), table)
    keys, values = torch.randn(24, 2, 16), torch.randn(24, 2, 16)
    slots, places = torch.arange(24) // 12, torch.arange(24) % 12
    store.write(slots, places, keys, values)
    # int8: half of a scale, a 127th of a head's largest number or the fp16 above; the others: their own rounding.
    unit = 1 / 250 if dtype == torch.int8 else torch.finfo(dtype).eps
    for slot in (0, 1):
        k_SGK, v_SGV = store.read(slot, 12)
        for found, new in ((k_SGK, keys[12 * slot :][:12]), (v_SGV, values[12 * slot :][:12])):
            assert ((found - new).abs() <= new.abs().amax(-1, keepdim=True) * unit).all()


def test_int8_lies_as_a_narrow_row():
    """A cache that torch wrote is read here, and the other way round."""
    rows = torch.randn(5, 3, 32) * torch.logspace(-6, 3, 3)[:, None]
    rows[4, 2] = 0
    store = Store.contiguous(encode(rows), encode(rows[..., :16]), torch.tensor([0]))
    keys, values = store.read(0, 5)
    assert torch.equal(keys, decode(encode(rows))) and torch.equal(values, decode(encode(rows[..., :16])))
    store.write(torch.zeros(5), torch.arange(5), rows.flip(0), rows.flip(0)[..., :16])
    assert torch.equal(store.keys, encode(rows.flip(0))) and store.key_width == 32 and store.value_width == 16


def test_keys_of_two_parts():
    first, more = torch.randn(4, 1, 32), torch.randn(4, 1, 16)
    store = Store.contiguous(first, first, torch.tensor([0]), more=more)
    assert torch.equal(store.read(0, 3)[0], torch.cat((first, more), -1)[:3]) and store.key_width == 48
    with pytest.raises(BadInput, match="one dtype"):
        Store.contiguous(first, first, torch.tensor([0]), more=more.half())


def test_impossible_stores_are_refused():
    x, one = torch.zeros(4, 1, 16), torch.tensor([0])
    for keys, values, table in (
        (x, x.half(), one[:, None]),
        (x.double(), x.double(), one[:, None]),
        (x, x.transpose(0, 2).contiguous().transpose(0, 2), one[:, None]),
        (x, x, one),
        (x, x, one[:, None].int()),
    ):
        with pytest.raises(BadInput, match="Store"):
            Store(keys=keys, values=values, table=table, page=4)
    with pytest.raises(BadInput):
        Store(keys=x, values=x, table=one[:, None], page=0)
