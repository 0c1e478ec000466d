"""Where keys and values of earlier tokens lie, told to kernels: contiguous or in pages, fp32, fp16, bfloat16 or int8.

Row `table[slot, place // page] + place % page` of `keys` is the key of a slot's token number `place`. A paged store
(P, C, G, K) is its own `flatten(0, 1)` with a table of page numbers times C; a contiguous one has a page for each slot.
int8: behind the bytes of each head stands its scale in fp16, as ops/narrow_row.py lays them; a number is worth
scale * byte, the scale max|x| / 127 rounded up, so it is off by half of the scale at most.
Where `more` is given, a key is what stands in `keys` and behind it what stands there (nn/attention/latent.py).
X rows of the store · G kv head · K head dim · B slot · M page of a slot.
Read next: ops/cpu/cache.h, ops/cpu/attention.py
"""

from __future__ import annotations

from ctypes import Structure, c_int32, c_int64, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.list import pointer
from cutaway.ops.narrow_row import SCALE, decode, encode

KINDS = (torch.float32, torch.float16, torch.bfloat16, torch.int8)
"""In the order of cache.h's enum."""

LANES = 16
"""Head widths are multiples of this."""

WIDEST = 1024
"""The widest head that attention.cpp has room for."""


class Cache(Structure):
    """What the kernels are told (cache.h)."""

    _fields_ = (
        *((name, c_void_p) for name in ("keys", "values", "more", "table")),
        *((name, c_int64) for name in ("key_row", "key_head", "value_row", "value_head", "more_row", "more_head")),
        *((name, c_int32) for name in ("kind", "page", "width", "kv_heads", "key_width", "value_width", "more_width")),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Store:
    """keys (X, G, K), values (X, G, V) and perhaps more (X, G, W), of any strides but for the last; K + 2, V + 2 and
    W + 2 in int8. table (B, M) int64, the row at which each page begins; `page` rows of a page."""

    keys: Tensor
    values: Tensor
    table: Tensor
    page: int
    more: Tensor | None = None

    def __post_init__(self) -> None:
        named = {"keys": self.keys, "values": self.values, "more": self.more}
        for name, tensor in named.items():
            if tensor is None:
                continue
            if tensor.dtype not in KINDS or tensor.dtype != self.keys.dtype:
                raise BadInput(f"must be of one dtype, one of {KINDS}: is {tensor.dtype}", field=f"Store.{name}")
            width = _width(tensor)
            if width < 1 or width % LANES or width > WIDEST:
                said = f"a head of {width} is no multiple of {LANES}, or wider than {WIDEST}"
                raise BadInput(said, field=f"Store.{name}")
            if tensor.ndim != 3 or tensor.stride(-1) != 1 or not tensor.is_cpu:
                raise BadInput("must be (rows, heads, numbers) on the CPU, numbers side by side", field=f"Store.{name}")
        if self.table.dtype != torch.int64 or self.table.ndim != 2 or not self.table.is_contiguous() or self.page < 1:
            raise BadInput("must be contiguous int64 (slots, pages), of pages of 1 row or more", field="Store.table")

    @staticmethod
    def contiguous(keys: Tensor, values: Tensor, starts: Tensor, more: Tensor | None = None) -> Store:
        """Slots that begin at rows `starts` (B,) and have all their rows behind each other."""
        return Store(keys=keys, values=values, more=more, table=starts.long()[:, None].contiguous(), page=2**30)

    @staticmethod
    def paged(keys_PCGK: Tensor, values_PCGK: Tensor, table_BM: Tensor, more_PCGK: Tensor | None = None) -> Store:
        """Pages of C rows; `table`: the numbers of each slot's pages."""
        page = keys_PCGK.shape[1]
        more = None if more_PCGK is None else more_PCGK.flatten(0, 1)
        keys, values, table = keys_PCGK.flatten(0, 1), values_PCGK.flatten(0, 1), (table_BM.long() * page).contiguous()
        return Store(keys=keys, values=values, more=more, table=table, page=page)

    def structure(self) -> Cache:
        """For the kernels: right for as long as the tensors stay where they are."""
        more_strides = (0, 0) if self.more is None else self.more.stride()[:2]
        return Cache(
            *map(pointer, (self.keys, self.values, self.more, self.table)),
            *(*self.keys.stride()[:2], *self.values.stride()[:2], *more_strides),
            *(KINDS.index(self.keys.dtype), self.page, self.table.shape[1], self.keys.shape[1]),
            *(_width(self.keys), self.value_width, 0 if self.more is None else _width(self.more)),
        )

    @property
    def key_width(self) -> int:
        """Numbers of a head's key."""
        return _width(self.keys) + (0 if self.more is None else _width(self.more))

    @property
    def value_width(self) -> int:
        """Numbers of a head's value."""
        return _width(self.values)

    def rows(self, slot: int, places: Tensor) -> Tensor:
        """The rows (S,) of a slot's tokens number `places`."""
        return self.table[slot, places // self.page] + places % self.page

    def read(self, slot: int, count: int) -> tuple[Tensor, Tensor]:
        """Keys and values (count, G, K) of a slot's first tokens, as float32."""
        rows = self.rows(slot, torch.arange(count))
        key = self._wide(self.keys, rows)
        if self.more is not None:
            key = torch.cat((key, self._wide(self.more, rows)), -1)
        return key, self._wide(self.values, rows)

    def write(self, slots: Tensor, places: Tensor, key_NGK: Tensor, value_NGK: Tensor) -> None:
        """Puts a token's key and value at each of some places. Not for keys of two parts."""
        rows = torch.stack([self.rows(int(slot), place) for slot, place in zip(slots, places.long(), strict=True)])
        for store, new in ((self.keys, key_NGK), (self.values, value_NGK)):
            store[rows] = encode(new) if store.dtype == torch.int8 else new.to(store.dtype)

    @staticmethod
    def _wide(store: Tensor, rows: Tensor) -> Tensor:
        return decode(store[rows]) if store.dtype == torch.int8 else store[rows].float()


def _width(store: Tensor) -> int:
    return store.shape[-1] - (SCALE if store.dtype == torch.int8 else 0)
