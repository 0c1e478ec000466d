"""Linear maps and token tables whose weights stay in blocks: y = x W^T + b from packed W.

They stand where nn/linear.py and nn/embedding.py would, called the same way.
N tokens, flat · V vocabulary · D model dim.   Read next: ops/packed.py, ops/multiply/fast.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.nn.context import Context
from cutaway.ops.blocks.dequantise import dequantise_rows
from cutaway.ops.multiply.nibbles import Nibbles
from cutaway.ops.packed import Joined, Packed


class QuantisedLinear(nn.Module):
    """x (N, inputs) -> (N, outputs); the weights take no gradient, the bias and x do."""

    def __init__(self, packed: Packed, bias: Tensor | None = None):
        super().__init__()
        self.packed = packed
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        packed: Any = self._modules["packed"]  # as in nn/block.py
        y = context.forms.multiply(x, packed)
        return y if self.bias is None else y + self.bias


class Fan:
    """Several linear maps of one input: x (N, inputs) -> one (N, outputs) for each.

    Where few rows meet packed maps of one format, one product with all their rows takes the place of several: starting
    a product costs as much as a small one takes. Everything else goes map by map. It has no parameters of its own, and
    is no module.
    """

    def __init__(self):
        super().__init__()
        self.joined: Joined | None = None
        self.maps: tuple[nn.Module, ...] = ()  # those that it was joined from

    def __call__(self, x: Tensor, context: Context, *maps: nn.Module) -> Sequence[Tensor]:
        joined = self._join(x, maps)
        if joined is None:
            return [one(x, context) for one in maps]
        return context.forms.multiply(x, joined).split_with_sizes(joined.rows, -1)

    def whole(self, x: Tensor, context: Context, *maps: nn.Module) -> Tensor | None:
        """The outputs of all maps side by side; None where no single product makes them."""
        joined = self._join(x, maps)
        return None if joined is None else context.forms.multiply(x, joined)

    def _join(self, x: Tensor, maps: tuple[nn.Module, ...]) -> Joined | None:
        return self.joint(maps) if 0 < x.shape[0] <= Nibbles.most else None

    def joint(self, maps: tuple[nn.Module, ...]) -> Joined | None:
        """The maps as one, made where they are not yet, or are no longer what they were; None where they cannot be."""
        if maps == self.maps and self.joined is not None and self.joined.current():
            return self.joined
        parts = tuple(one.packed for one in maps if type(one) is QuantisedLinear and one.bias is None)
        if len(parts) != len(maps) or not Joined.fits(parts):
            return None
        self.maps, self.joined = maps, Joined(parts)
        return self.joined


class QuantisedEmbedding(nn.Module):
    """ids (N,) -> rows (N, D); only the rows that are looked up are unpacked. `logits` multiplies by the same rows."""

    like: Tensor

    def __init__(self, packed: Packed, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.packed = packed
        # Blocks have no dtype to compute in. This empty tensor has, and follows the model when it is cast.
        self.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)

    def forward(self, ids_N: Tensor) -> Tensor:
        return dequantise_rows(self.packed.blocks, self.packed.format, ids_N).to(self.like.dtype)

    def logits(self, x_ND: Tensor, context: Context) -> Tensor:
        """Scores (N, V) of every token of the vocabulary."""
        return context.forms.multiply(x_ND, self.packed)
