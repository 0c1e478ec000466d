"""Heads between their projection and attention, as one kernel: QK-norm, rotary turn, and a place in the cache.

Equations and papers: ops/norm.py, ops/rope.py. Tables are those of `ops.rope.tables`: as wide as what turns, the sine
with its sign; half-split or interleaved.
N tokens, flat · H query head · G kv head · K head dim · W rotary width.
Read next: ops/cpu/rotate.cpp, ops/cpu/cache.py
"""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops import rope
from cutaway.ops.cpu.cache import LANES, Store
from cutaway.ops.cpu.list import address, alone, floats, pointer, whole
from cutaway.ops.cpu.norm import norm_readable


class Rotate(Structure):
    """The arguments of `rotate` (rotate.cpp)."""

    _fields_ = (
        *((name, c_void_p) for name in ("x", "cos", "sin", "positions", "query_weight", "key_weight")),
        *((name, c_void_p) for name in ("query_bias", "key_bias", "cache", "slots", "places")),
        ("row", c_int64),
        *((name, c_int32) for name in ("count", "heads", "kv_heads", "width", "turned", "value_width")),
        *((name, c_int32) for name in ("interleaved", "centred")),
        ("eps", c_float),
        ("offset", c_float),
        ("far", c_void_p),
        ("most", c_int32),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadNorm:
    """The norm of each head's query and key (QK-norm): weights (K,), biases of a layer norm."""

    query: Tensor
    key: Tensor
    query_bias: Tensor | None = None
    key_bias: Tensor | None = None
    eps: float = 1e-6
    offset: float = 0.0
    centred: bool = False


@dataclass(frozen=True, kw_only=True)
class Heads:
    """`width` of queries and keys; a row holds query heads, key heads, and value heads of `value_width` each."""

    heads: int
    kv_heads: int
    width: int
    value_width: int

    def __post_init__(self) -> None:
        if self.width % LANES or self.value_width % LANES:
            raise BadInput(f"must be multiples of {LANES}: {self.width}, {self.value_width}", field="Heads.width")

    @property
    def row(self) -> int:
        """Numbers of a whole row."""
        return (self.heads + self.kv_heads) * self.width + self.kv_heads * self.value_width


def rotate_readable(
    x_NR: Tensor,
    heads: Heads,
    tables: tuple[Tensor, Tensor] | None = None,
    *,
    interleaved: bool = False,
    norm: HeadNorm | None = None,
    store: Store | None = None,
    slots_N: Tensor | None = None,
    places_N: Tensor | None = None,
) -> Tensor:
    """x (N, R), each row query, key and value heads side by side -> the same with queries and keys normed and turned.
    `tables`: (cos, sin), each (N, 1, W). Keys and values go to `places` of `slots` in the store, where there is one."""
    middle = heads.heads * heads.width
    q_NHK = x_NR[:, :middle].unflatten(-1, (heads.heads, heads.width))
    k_NGK = x_NR[:, middle : middle + heads.kv_heads * heads.width].unflatten(-1, (heads.kv_heads, heads.width))
    v = x_NR[:, middle + heads.kv_heads * heads.width :]
    if norm is not None:
        told = {"eps": norm.eps, "offset": norm.offset, "centred": norm.centred}
        q_NHK = norm_readable(q_NHK, norm.query, norm.query_bias, **told)
        k_NGK = norm_readable(k_NGK, norm.key, norm.key_bias, **told)
    if tables is not None:
        q_NHK, k_NGK = (rope.rotate_readable(x, *tables, interleaved) for x in (q_NHK, k_NGK))
    if store is not None and slots_N is not None and places_N is not None:
        store.write(slots_N, places_N, k_NGK, v.unflatten(-1, (heads.kv_heads, heads.value_width)))
    return torch.cat((q_NHK.flatten(1), k_NGK.flatten(1), v), -1)


def clamped_readable(
    x_NR: Tensor,
    heads: Heads,
    tables: tuple[Tensor, Tensor],
    most: int,
    *,
    interleaved: bool = False,
    norm: HeadNorm | None = None,
) -> Tensor:
    """x (N, R) -> queries (N, H, K) alone, normed, and turned as those who look at sinks are: row n by row min(n, most)
    of the tables (N, 1, W)."""
    cos, sin = (table[torch.arange(len(x_NR)).clamp(max=most)] for table in tables)
    turned_NR = rotate_readable(x_NR, heads, (cos, sin), interleaved=interleaved, norm=norm)
    return turned_NR[:, : heads.heads * heads.width].unflatten(-1, (heads.heads, heads.width))


def rotate_kernel(
    x_NR: Tensor,
    heads: Heads,
    tables: tuple[Tensor, Tensor] | None = None,
    *,
    interleaved: bool = False,
    norm: HeadNorm | None = None,
    store: Store | None = None,
    slots_N: Tensor | None = None,
    places_N: Tensor | None = None,
) -> Tensor:
    """The same by the kernel, in float32. Raises NoKernels where there are none."""
    x_NR = floats(x_NR).clone()
    cache = None if store is None else store.structure()
    slots_N, places_N = (None if one is None else whole(one) for one in (slots_N, places_N))
    told, _kept = _told(x_NR, heads, tables, interleaved, norm)
    told.cache = None if cache is None else address(cache)
    told.slots, told.places = pointer(slots_N), pointer(places_N)
    alone("rotate", told)
    return x_NR


def clamped_kernel(
    x_NR: Tensor,
    heads: Heads,
    tables: tuple[Tensor, Tensor],
    most: int,
    *,
    interleaved: bool = False,
    norm: HeadNorm | None = None,
) -> Tensor:
    """The same by the kernel, in float32. Raises NoKernels where there are none."""
    x_NR = floats(x_NR).clone()
    far_NR = torch.empty_like(x_NR)
    told, _kept = _told(x_NR, heads, tables, interleaved, norm)
    told.far, told.most = far_NR.data_ptr(), most
    alone("rotate", told)
    return far_NR[:, : heads.heads * heads.width].unflatten(-1, (heads.heads, heads.width))


def _told(
    x_NR: Tensor, heads: Heads, tables: tuple[Tensor, Tensor] | None, interleaved: bool, norm: HeadNorm | None
) -> tuple[Rotate, list[Tensor | None]]:
    """What the kernel is told, and the tensors that it points to."""
    cos, sin = (None, None) if tables is None else map(floats, tables)
    norms: list[Tensor | None] = [None] * 4
    if norm is not None:
        norms = [None if one is None else floats(one) for one in (norm.query, norm.key, norm.query_bias, norm.key_bias)]
    told = Rotate(
        *map(pointer, (x_NR, cos, sin, None, *norms, None, None, None)),
        *(x_NR.stride(0), len(x_NR), heads.heads, heads.kv_heads, heads.width),
        *(0 if cos is None else cos.shape[-1], heads.value_width, interleaved, norm is not None and norm.centred),
        *(0.0 if norm is None else norm.eps, 0.0 if norm is None else norm.offset),
    )
    return told, [cos, sin, *norms]
