"""A quantised matrix that stays quantised: its blocks as they lie in the file, and repacked copies for fast products.

The blocks may be a view of a mapped file: they cost no memory of their own. A repacked copy is made when a product
first asks for it, one slab at a time, so that loading never holds more than the copies and a few megabytes.
Read next: ops/multiply/readable.py, ops/multiply/fast.py
"""

# R rows (outputs) · C columns (inputs)

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.multiply.bags import Bags
from cutaway.ops.multiply.nibbles import Nibbles

Few = Nibbles | Bags
"""A matrix repacked for products with a few rows."""


class Packed(nn.Module):
    """blocks: uint8 (R, bytes per row), of one format. A module, so that it moves and is saved with its model.

    Casting a model to another dtype leaves the blocks alone; moving it drops the repacked copies, which are the CPU's.
    """

    blocks: Tensor

    def __init__(self, *, blocks: Tensor, format: BlockFormat):
        super().__init__()
        if blocks.dtype != torch.uint8 or blocks.dim() != 2 or blocks.shape[1] % format.bytes:
            expected = f"uint8 rows of whole {format.bytes}-byte blocks"
            raise BadInput(f"a {format.name} matrix is {expected}, not {blocks.dtype} {tuple(blocks.shape)}")
        self.register_buffer("blocks", blocks)
        self.format = format
        self.shape = torch.Size((blocks.shape[0], blocks.shape[1] // format.bytes * format.weights))
        self.copies: dict[type[Few], Few] = {}
        self.register_load_state_dict_pre_hook(_make_room)

    def few(self, exact: bool = False) -> Few | None:
        """The copy for products with a few rows, made if it is not there; None where this machine has no kernel for it.

        `exact`: one that rounds nothing to bfloat16.
        """
        for kind in (Bags,) if exact else (Nibbles, Bags):
            if kind in self.copies:
                return self.copies[kind]
            if self.blocks.device.type == "cpu" and kind.fits(self.format, self.shape[0]):
                # What is made while inferring must still be of use to a training step.
                with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
                    self.copies[kind] = kind.of(self.blocks, self.format)
                return self.copies[kind]
        return None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Packed:
        before = self.blocks
        super()._apply(fn, recurse)
        if self.blocks is not before:
            self.copies.clear()
        return self

    def extra_repr(self) -> str:
        return f"{self.shape[1]} -> {self.shape[0]}, {self.format.name}"


def _make_room(packed: Packed, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
    """Before blocks are loaded: new memory for them, as the old may be a file that is mapped for reading only."""
    if f"{prefix}blocks" in state_dict:
        packed.blocks = torch.empty_like(packed.blocks, memory_format=torch.contiguous_format)
        packed.copies.clear()
