"""Arithmetic that does not show who else is in the batch: each operation on float32 is worked out wider, rounded once.

A sum of floats depends on its order, and kernels choose the order by the shape of all they are given; so the same token
comes out a little different in a larger batch, or as a part of a longer prompt, and where two tokens are nearly as
likely, a text parts (He et al. 2025, "Defeating Nondeterminism in LLM Inference"). They write kernels with one order.
Here every operation is done in float64, whatever its order, and rounded to float32. Two orders then differ by 1e-16 of
a sum, and round to the same float32 but once in some 1e8 times, by its last bit. Slower, and for any part, a reader's
own too. Forms that choose their arithmetic by the size of a pass are not used (`infer.runner.steady`).
Read next: infer/runner.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = """_to_copy cat stack index index_select index_copy gather embedding clone contiguous where masked_fill
repeat_interleave repeat constant_pad_nd pad reshape flatten to empty_like zeros_like new_zeros new_empty
_local_scalar_dense item _unsafe_view copy fill zero resize index_put scatter"""
MOVES = frozenset(f"aten::{name}" for name in _ATEN.split())
"""Operations that only move numbers: wider, they would give the same."""


class Rounded(TorchDispatchMode):
    """As a context: `with Rounded(): ...`."""

    def __init__(self) -> None:
        super().__init__()
        self._moves: dict[Any, bool] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (moves := self._moves.get(func)) is None:
            name = func._schema.name.removesuffix("_")
            moves = self._moves[func] = func.is_view or name in MOVES
        told = kwargs or {}
        # Beside something wider the result is wide already, and wanted so.
        if moves or _any(args, told, torch.float64) or not _any(args, told, torch.float32):
            return func(*args, **told)
        wide, named = [_widened(value) for value in args], {name: _widened(value) for name, value in told.items()}
        made = func(*wide, **named)
        if func._schema.is_mutable:  # what was written into the wide copies goes back to where it belongs
            for narrow, written in zip((*args, *told.values()), (*wide, *named.values()), strict=True):
                if written is made:
                    return narrow.copy_(written)
            raise NotImplementedError(f"{func._schema.name} writes in place, and not what it returns")
        return type(made)(map(_narrowed, made)) if isinstance(made, (tuple, list)) else _narrowed(made)


def _any(args: Any, kwargs: Any, dtype: torch.dtype) -> bool:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            if value.dtype == dtype:
                return True
        elif isinstance(value, (list, tuple)) and any(isinstance(one, Tensor) and one.dtype == dtype for one in value):
            return True
    return False


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype == torch.float32 else value
    if value is torch.float32:  # what a result is asked for in
        return torch.float64
    return [_widened(one) for one in value] if isinstance(value, (list, tuple)) else value


def _narrowed(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.float64 else value
