"""How fast this machine reads memory and multiplies matrices: the two numbers that bound a language model.

Decoding one token reads every weight once, so tokens/s <= bandwidth / bytes of weights; reading a prompt multiplies, so
tokens/s <= rate / (2 * weights). Each number is the best of the runs that fit in its time: whatever else the machine
does can only make it smaller. Seconds are wall clock.

Read next: lab/bound.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

SECONDS = 0.5  # for each number
SIDE = 1024  # of the square matrices
LEAST, MOST = 64 << 20, 512 << 20  # bytes of the buffer that is read


def best(once: Callable[[], object], seconds: float = SECONDS) -> float:
    """Seconds of the quickest call, after one that is not counted (it touches the memory and picks the kernel)."""
    once()
    quickest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or quickest == float("inf"):
        start = time.perf_counter()
        once()
        quickest = min(quickest, time.perf_counter() - start)
    return quickest


def buffer_size(cache: int | None, memory_free: int | None) -> int:
    """Bytes that are well beyond the processor's cache and well within memory."""
    size = min(max(LEAST, 4 * (cache or LEAST)), MOST)
    return size if memory_free is None else max(1 << 20, min(size, memory_free // 8))


def read_bandwidth(size: int, seconds: float = SECONDS) -> float:
    """Bytes per second while a buffer of `size` bytes is summed."""
    x_N = torch.ones(size // 4)
    return x_N.nbytes / best(x_N.sum, seconds)


def copy_bandwidth(size: int, seconds: float = SECONDS) -> float:
    """Bytes per second, read and written, while a buffer of `size` bytes is copied."""
    x_N = torch.ones(size // 4)
    y_N = torch.empty_like(x_N)
    return 2 * x_N.nbytes / best(lambda: y_N.copy_(x_N), seconds)


def matmul_rate(dtype: torch.dtype, seconds: float = SECONDS, side: int = SIDE) -> float | None:
    """Operations per second (a multiplication and an addition count as two) of a square product, or None if this
    build of torch cannot multiply `dtype` on this processor. int8 multiplies into int32.
    """
    if dtype == torch.int8:
        x_DD, multiply = torch.randint(-127, 128, (side, side), dtype=dtype), torch._int_mm  # type: ignore[private]
    else:
        x_DD, multiply = torch.randn(side, side).to(dtype), torch.matmul
    try:
        return 2 * side**3 / best(lambda: multiply(x_DD, x_DD), seconds)
    except (RuntimeError, NotImplementedError, AttributeError):
        return None
