"""What is written to a store is read back: contiguous and paged, in every precision; impossible stores are refused."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.cache import Store


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("paged", [False, True], ids=["contiguous", "paged"])
def test_written_and_read_back(dtype, paged):
    torch.manual_seed(0)
    scales = {}
    shape = (6, 4, 2, 16) if paged else (24, 2, 16)
    if dtype == torch.int8:
        scales = {name: torch.zeros(shape[:-1]) for name in ("key_scales", "value_scales")}
    make = Store.paged if paged else Store.contiguous
    table = torch.tensor([[5, 2, 0], [1, 4, 3]]) if paged else torch.tensor([0, 12])
    store = make(torch.zeros(shape).to(dtype), torch.zeros(shape).to(dtype), table, **scales)
    keys, values = torch.randn(24, 2, 16), torch.randn(24, 2, 16)
    slots, places = torch.arange(24) // 12, torch.arange(24) % 12
    store.write(slots, places, keys, values)
    # int8: half of a 127th of a head's largest number; the others: their own rounding.
    unit = 1 / 250 if dtype == torch.int8 else torch.finfo(dtype).eps
    for slot in (0, 1):
        k_SGK, v_SGV = store.read(slot, 12)
        for found, new in ((k_SGK, keys[12 * slot :][:12]), (v_SGV, values[12 * slot :][:12])):
            assert ((found - new).abs() <= new.abs().amax(-1, keepdim=True) * unit).all()


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
