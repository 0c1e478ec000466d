"""What kernels are told of each layer's cache: where the rows of a mixer's two streams lie, and in which precision.

X rows of a store.   Read next: ops/cpu/cache.py, infer/kernel_latent.py, infer/kernel_steps.py
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cutaway.infer.kernel_latent import LatentCache
from cutaway.nn.attention.latent import Latent
from cutaway.ops.cpu.cache import KINDS, SCALE, Cache, Store

Kept = Cache | LatentCache
Rolling = tuple[int | None, int]
"""What is kept of a text: its last tokens (None: all), and so many first ones anyway."""


def room(mixer: Any) -> Kept:
    """Where kernels are told of a mixer's cache; lists point there."""
    return LatentCache() if isinstance(mixer.spec, Latent) else Cache()


def rolling(mixer: Any) -> Rolling:
    """What a mixer's streams keep: those of equal ones lie alike."""
    return getattr(mixer.spec, "window", None), getattr(mixer.spec, "sinks", 0)


def fits(spec: Any, first: Tensor) -> bool:
    """Whether a mixer's first stream (X, ..) lies as kernels read it."""
    width = spec.rank if isinstance(spec, Latent) else spec.head_dim
    return first.dtype in KINDS and first.shape[-1] == width + (SCALE if first.dtype == torch.int8 else 0)


def tell(kept: Kept, first: Tensor, second: Tensor, make: Callable[..., Store]) -> None:
    """Tells kernels where the rows of a mixer's two streams lie from now on. `make` makes a store of keys, values and
    perhaps more; all that it points to has to stay where it is."""
    told = LatentCache.of(first, second, make) if isinstance(kept, LatentCache) else make(first, second).structure()
    ctypes.pointer(kept)[0] = told
