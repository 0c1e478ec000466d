"""A quantised matrix that stays quantised: its blocks as they lie in the file, and repacked copies for fast products.

The blocks may be a view of a mapped file: they cost no memory of their own. A repacked copy is made when a product
first asks for it, one slab at a time, so that loading never holds more than the copies and a few megabytes.
Read next: ops/multiply/readable.py, ops/multiply/fast.py
"""

# R rows (outputs) · C columns (inputs)

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.cpu.pack import Strips
from cutaway.ops.multiply.bags import Bags
from cutaway.ops.multiply.nibbles import Nibbles
from cutaway.ops.multiply.unpacked import unpacked

Few = Nibbles | Bags
"""A matrix repacked for torch's products with a few rows."""

Copies = dict[type, Any]  # what is kept under a type is of that type


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
        self.copies: Copies = {}
        self.unpacked: Tensor | None = None
        self.register_load_state_dict_pre_hook(_make_room)

    def few(self, exact: bool = False) -> Few | None:
        """The copy for products with a few rows, made if it is not there; None where this machine has no kernel for it.

        `exact`: one that rounds nothing to bfloat16.
        """
        return _few(self, exact)

    def strips(self) -> Strips | None:
        """The copy for our own kernels (ops/cpu/pack.py), made if it is not there; None where the CPU has no blocks."""
        return _copy(self, Strips)

    def many(self) -> Tensor | None:
        """The weights (R, C) in bfloat16, for products with many rows; None where there is no room to keep them."""
        if self.unpacked is None and self.blocks.device.type == "cpu":
            self.unpacked = unpacked(self.blocks, self.format)
        return self.unpacked

    def _drop(self) -> None:
        """Forgets all copies: the blocks are no longer those that they were made from."""
        self.copies.clear()
        self.unpacked = None

    def __deepcopy__(self, memo: dict[int, object]) -> Packed:
        # Copies are made again when asked for: the room for unpacked ones is counted.
        return Packed(blocks=deepcopy(self.blocks, memo), format=self.format)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Packed:
        before = self.blocks
        super()._apply(fn, recurse)
        if self.blocks is not before:
            self._drop()
        return self

    def extra_repr(self) -> str:
        return f"{self.shape[1]} -> {self.shape[0]}, {self.format.name}"


class Joined:
    """Several packed matrices of one format and width as one, their rows end to end: one product instead of several.

    Only the repacked copy is kept; the blocks stay where they are, and `blocks` lays them end to end when asked.
    """

    def __init__(self, parts: tuple[Packed, ...]):
        self.parts = parts
        self.held = tuple(part.blocks for part in parts)
        self.ids = [id(blocks) for blocks in self.held]  # held, so that no other tensor can get them
        self.format = parts[0].format
        self.rows = [part.shape[0] for part in parts]
        self.shape = torch.Size((sum(self.rows), parts[0].shape[1]))
        self.copies: Copies = {}

    @staticmethod
    def fits(parts: tuple[Packed, ...]) -> bool:
        """Whether they are of one format, width and device."""
        first = parts[0]
        return all(
            one.format is first.format and one.shape[1] == first.shape[1] and one.blocks.device == first.blocks.device
            for one in parts
        )

    def current(self) -> bool:
        """Whether its parts still hold the blocks that they held."""
        # Asked for in every layer of every token: `part.blocks` would take three times as long.
        return [id(part._buffers["blocks"]) for part in self.parts] == self.ids

    @property
    def blocks(self) -> Tensor:
        return torch.cat(self.held)

    def few(self, exact: bool = False) -> Few | None:
        """As of `Packed`."""
        return _few(self, exact)

    def strips(self) -> Strips | None:
        """As of `Packed`; from then on the parts' own are runs of this one, so that nothing is held twice."""
        if Strips in self.copies:
            return self.copies[Strips]
        whole, start = _copy(self, Strips), 0
        for part, rows in zip(self.parts, self.rows, strict=True):
            run = None if whole is None else whole.run(start, rows)
            if run is not None:
                part.copies[Strips] = run
            start += rows
        return whole


def _few(packed: Packed | Joined, exact: bool) -> Few | None:
    # The commonest answer first: it is asked for 200 times a token.
    found = None if exact else packed.copies.get(Nibbles)
    return found or (None if exact else _copy(packed, Nibbles)) or _copy(packed, Bags)


Copy = TypeVar("Copy", Nibbles, Bags, Strips)


def _copy(packed: Packed | Joined, kind: type[Copy]) -> Copy | None:
    """The copy of that kind, made if it is not there; None where it cannot be."""
    found = packed.copies.get(kind)
    if found is None and kind.fits(packed.format, packed.shape[0]) and (blocks := packed.blocks).device.type == "cpu":
        # What is made while inferring must still be of use to a training step.
        with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
            found = packed.copies[kind] = kind.of(blocks, packed.format)
    return found


def _make_room(packed: Packed, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
    """Before blocks are loaded: new memory for them, as the old may be a file that is mapped for reading only."""
    if f"{prefix}blocks" in state_dict:
        packed.blocks = torch.empty_like(packed.blocks, memory_format=torch.contiguous_format)
        packed._drop()
