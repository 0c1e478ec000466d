"""The rows of a rolling cache as attention reads them, as a kernel: those that stay, those that roll, keys turned.

StreamingLLM (arXiv 2309.17453), section 3.2: a key is turned by its place within the cache, which changes as the window
rolls; so keys are kept before they are turned (nn/attention/sinks.py), and each pass turns what it reads.
S rows that are seen · G kv head · K head dim · V value dim · W rotary width.
Read next: ops/cpu/rolling.cpp, infer/kernel_sinks.py
"""

from __future__ import annotations

from ctypes import Structure, c_int32, c_void_p

import torch
from torch import Tensor

from cutaway.ops import rope
from cutaway.ops.cpu.cache import Store
from cutaway.ops.cpu.list import address, alone, floats, pointer, whole


class Unroll(Structure):
    """The arguments of `unroll` (rolling.cpp)."""

    _fields_ = (
        *((name, c_void_p) for name in ("pinned", "rolling", "span", "cos", "sin", "keys", "values")),
        *((name, c_int32) for name in ("turned", "interleaved")),
    )


def unroll_readable(
    pinned: Store,
    rolling: Store,
    span: tuple[int, int, int],
    tables: tuple[Tensor, Tensor] | None = None,
    *,
    interleaved: bool = False,
) -> tuple[Tensor, Tensor]:
    """Keys (S, G, K), turned, and values (S, G, V), of slot 0 of two stores. `span`: how many rows stay, the first that
    rolls and is seen, how many of these. `tables`: (cos, sin) of places, each (S, 1, W)."""
    staying, first, count = span
    kept = pinned.read(0, staying), rolling.read(0, first + count)
    keys, values = (torch.cat((one, other[first:])) for one, other in zip(*kept, strict=True))
    if tables is not None:
        cos, sin = (table[: len(keys)] for table in tables)
        keys = rope.rotate_readable(keys, cos, sin, interleaved=interleaved)
    return keys, values


def unroll_kernel(
    pinned: Store,
    rolling: Store,
    span: tuple[int, int, int],
    tables: tuple[Tensor, Tensor] | None = None,
    *,
    interleaved: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same by the kernel. Raises NoKernels where there are none."""
    rows, heads = span[0] + span[2], rolling.keys.shape[1]
    keys, values = torch.empty(rows, heads, rolling.key_width), torch.empty(rows, heads, rolling.value_width)
    caches, numbers = (pinned.structure(), rolling.structure()), whole(span)
    cos, sin = (None, None) if tables is None else map(floats, tables)
    told = Unroll(*map(address, caches), *map(pointer, (numbers, cos, sin, keys, values)))
    told.turned, told.interleaved = 0 if cos is None else cos.shape[-1], interleaved
    alone("unroll", told)
    return keys, values
