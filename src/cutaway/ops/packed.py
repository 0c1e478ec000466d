"""A matrix that stays in its blocks.

R rows (outputs) · C columns (inputs) · U bytes of a row.   Read next: ops/multiply.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.ops.blocks.format import BlockFormat


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """`blocks`: (R, U) bytes, of `format`."""

    blocks: Tensor
    format: BlockFormat

    @property
    def shape(self) -> tuple[int, int]:
        return self.blocks.shape[0], self.blocks.shape[1] // self.format.bytes * self.format.weights

    def to(self, device: torch.device | str) -> Packed:
        return Packed(blocks=self.blocks.to(device), format=self.format)
