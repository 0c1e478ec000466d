"""How much an attention keeps for its backward pass, and the largest tensor it makes: counted, not measured.

T tokens, one sequence.   Read next: ops/tiled.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Bytes. `saved`: what the graph holds between the passes; `largest`: the largest tensor of either pass."""

    saved: int
    largest: int


class Largest(TorchDispatchMode):
    """Watches what torch's own operations make: the bytes behind the largest tensor of all."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = (tensor.untyped_storage().nbytes() for tensor in tree_leaves(made) if isinstance(tensor, Tensor))
        self.bytes = max(self.bytes, *sizes, 0)
        return made


def kept(attend: Callable[..., Tensor], tokens: int, heads: int = 2, width: int = 8) -> Kept:
    """Of one causal pass over `tokens` tokens and back, in float32."""
    given = [torch.randn(tokens, heads, width, requires_grad=True) for _ in range(3)]
    see = Visible(queries=(tokens,), keys=(tokens,))
    saved: dict[int, Tensor] = {}  # by the memory behind it; held on to, so that no other tensor takes its place

    def note(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with Largest() as largest:
        with saved_tensors_hooks(note, lambda tensor: tensor):
            y_NHK = attend(*given, see, scale=width**-0.5)
        y_NHK.sum().backward()
    return Kept(saved=sum(tensor.untyped_storage().nbytes() for tensor in saved.values()), largest=largest.bytes)


def slope(sizes: Sequence[float], amounts: Sequence[float]) -> float:
    """The exponent by which amounts grow with sizes: that of the straight line nearest to their logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(amount) for amount in amounts]
    middle, level = sum(x) / len(x), sum(y) / len(y)
    return sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)
