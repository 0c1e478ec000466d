"""Names and sizes of the weight formats that GGUF files hold: how many weights share a block, and its bytes.

A block is the unit of quantisation: a few small integers and the scale they share. Blocks lie along a row, so a
matrix of R rows and C columns is R rows of C / weights blocks.
Layouts: ggml's `ggml-common.h`, drawn in ops/blocks/small.py and ops/blocks/superblocks.py.
Read next: ops/blocks/dequantise.py
"""

from __future__ import annotations

from dataclasses import dataclass

from cutaway.base.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class BlockFormat:
    """`weights` numbers kept in `bytes` bytes."""

    name: str
    weights: int
    bytes: int

    @property
    def bits(self) -> float:
        """Bits per weight, scales included."""
        return 8 * self.bytes / self.weights

    def row_bytes(self, columns: int) -> int:
        """Bytes of a row of `columns` weights; BadInput where the row does not end on a block."""
        blocks, left = divmod(columns, self.weights)
        if left:
            raise BadInput(f"a row of {columns} weights is not a whole number of {self.name} blocks of {self.weights}")
        return blocks * self.bytes


def _table(*formats: tuple[str, int, int]) -> dict[str, BlockFormat]:
    return {name: BlockFormat(name=name, weights=weights, bytes=size) for name, weights, size in formats}


FORMATS = _table(
    ("q4_0", 32, 18),  # fp16 scale, 4 bits
    ("q4_1", 32, 20),  # fp16 scale and minimum, 4 bits
    ("q5_0", 32, 22),  # fp16 scale, 4 + 1 bits
    ("q5_1", 32, 24),  # fp16 scale and minimum, 4 + 1 bits
    ("q8_0", 32, 34),  # fp16 scale, 8 bits
    ("q4_k", 256, 144),  # 8 scales and minima of 6 bits under two fp16, 4 bits
    ("q5_k", 256, 176),  # 8 scales and minima of 6 bits under two fp16, 4 + 1 bits
    ("q6_k", 256, 210),  # 16 scales of 8 bits under one fp16, 4 + 2 bits
)
"""The block-quantised formats that Cutaway reads."""

PLAIN = _table(("f32", 1, 4), ("f16", 1, 2), ("bf16", 1, 2))
"""Plain dtypes seen as blocks of one weight, so that one call turns any tensor of a file into numbers."""


def format_named(name: str) -> BlockFormat:
    """The format of that name, quantised or plain; BadInput names those there are."""
    found = FORMATS.get(name) or PLAIN.get(name)
    if found is None:
        raise BadInput(f"no format called {name!r}; Cutaway reads {', '.join([*FORMATS, *PLAIN])}")
    return found
