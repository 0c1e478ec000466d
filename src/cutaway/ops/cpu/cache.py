"""Where keys and values of earlier tokens lie, told to kernels: contiguous or in pages, fp32, fp16, bfloat16 or int8.

Row `table[slot, place // page] + place % page` of `keys` is the key of a slot's token number `place`. A paged store
(P, C, G, K) is its own `flatten(0, 1)` with a table of page numbers times C; a contiguous one has a page for each slot.
int8: a number of a head is worth scale * byte, its scale max|x| / 127, so it is off by at most max|x| / 254.
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

KINDS = (torch.float32, torch.float16, torch.bfloat16, torch.int8)
"""In the order of cache.h's enum."""

LANES = 16
"""Head widths are multiples of this."""

WIDEST = 1024
"""The widest head that attention.cpp has room for."""


class Cache(Structure):
    """What the kernels are told (cache.h)."""

    _fields_ = (
        *((name, c_void_p) for name in ("keys", "values", "key_scales", "value_scales", "table")),
        *((name, c_int64) for name in ("key_row", "key_head", "value_row", "value_head", "scale_row", "scale_head")),
        *((name, c_int32) for name in ("kind", "page", "width", "kv_heads", "key_width", "value_width")),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Store:
    """keys (X, G, K) and values (X, G, V), of any strides but for the last; table (B, M) int64, the row at which each
    page begins; `page` rows of a page. int8 stores have scales (X, G) as well."""

    keys: Tensor
    values: Tensor
    table: Tensor
    page: int
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    def __post_init__(self) -> None:
        if self.keys.dtype not in KINDS or self.keys.dtype != self.values.dtype:
            raise BadInput(f"must both be one of {KINDS}: {self.keys.dtype}, {self.values.dtype}", field="Store.keys")
        if (self.key_scales is None) != (self.keys.dtype != torch.int8):
            raise BadInput("go with int8, and only with it", field="Store.key_scales")
        for name, tensor in (("keys", self.keys), ("values", self.values)):
            if tensor.shape[-1] % LANES or tensor.shape[-1] > WIDEST:
                said = f"a head of {tensor.shape[-1]} is no multiple of {LANES}, or wider than {WIDEST}"
                raise BadInput(said, field=f"Store.{name}")
            if tensor.ndim != 3 or tensor.stride(-1) != 1 or not tensor.is_cpu:
                raise BadInput("must be (rows, heads, numbers) on the CPU, numbers side by side", field=f"Store.{name}")
        if self.table.dtype != torch.int64 or self.table.ndim != 2 or not self.table.is_contiguous() or self.page < 1:
            raise BadInput("must be contiguous int64 (slots, pages), of pages of 1 row or more", field="Store.table")

    @staticmethod
    def contiguous(keys: Tensor, values: Tensor, starts: Tensor, **scales: Tensor) -> Store:
        """Slots that begin at rows `starts` (B,) and have all their rows behind each other."""
        return Store(keys=keys, values=values, table=starts.long()[:, None].contiguous(), page=2**30, **scales)

    @staticmethod
    def paged(keys_PCGK: Tensor, values_PCGK: Tensor, table_BM: Tensor, **scales: Tensor) -> Store:
        """Pages of C rows; `table`: the numbers of each slot's pages."""
        page = keys_PCGK.shape[1]
        flat = {name: scale_PCG.flatten(0, 1) for name, scale_PCG in scales.items()}
        keys, values, table = keys_PCGK.flatten(0, 1), values_PCGK.flatten(0, 1), (table_BM.long() * page).contiguous()
        return Store(keys=keys, values=values, table=table, page=page, **flat)

    def structure(self) -> Cache:
        """For the kernels: right for as long as the tensors stay where they are."""
        key_scales, value_scales = self.key_scales, self.value_scales
        scale_strides = (0, 0) if key_scales is None else (key_scales.stride(0), key_scales.stride(1))
        return Cache(
            *map(pointer, (self.keys, self.values, key_scales, value_scales, self.table)),
            *(*self.keys.stride()[:2], *self.values.stride()[:2], *scale_strides),
            *(KINDS.index(self.keys.dtype), self.page, self.table.shape[1]),
            *(self.keys.shape[1], self.keys.shape[2], self.values.shape[2]),
        )

    def rows(self, slot: int, places: Tensor) -> Tensor:
        """The rows (S,) of a slot's tokens number `places`."""
        return self.table[slot, places // self.page] + places % self.page

    def read(self, slot: int, count: int) -> tuple[Tensor, Tensor]:
        """Keys and values (count, G, K) of a slot's first tokens, as float32."""
        rows = self.rows(slot, torch.arange(count))
        return self._wide(self.keys, self.key_scales, rows), self._wide(self.values, self.value_scales, rows)

    def write(self, slots: Tensor, places: Tensor, key_NGK: Tensor, value_NGK: Tensor) -> None:
        """Puts a token's key and value at each of some places."""
        rows = torch.stack([self.rows(int(slot), place) for slot, place in zip(slots, places.long(), strict=True)])
        for store, scales, new in (
            (self.keys, self.key_scales, key_NGK),
            (self.values, self.value_scales, value_NGK),
        ):
            if scales is None:
                store[rows] = new.to(store.dtype)
            else:
                peak = new.abs().amax(-1)
                scales[rows] = peak / 127
                store[rows] = (new * (127 / peak)[..., None]).nan_to_num(0.0).round().to(torch.int8)

    @staticmethod
    def _wide(store: Tensor, scales: Tensor | None, rows: Tensor) -> Tensor:
        wide = store[rows].float()
        return wide if scales is None else wide * scales[rows][..., None]
