"""Patterns of layers: which block stands where, as a tuple of blocks.

GPT-3 (Brown et al. 2020, arXiv 2005.14165), section 2.1: "alternating dense and locally banded sparse attention
patterns in the layers", after the Sparse Transformer (Child et al. 2019, arXiv 1904.10509). Gemma 3 (arXiv 2503.19786),
section 2: five layers with a window to one without. A band is a window: a token sees so many, itself included.
Departures: GPT-3's paper tells neither the band's width nor which kind comes first; here dense does.
Read next: nn/block.py, models/decoder.py
"""

from __future__ import annotations

from dataclasses import replace

from cutaway.base.errors import BadInput
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block


def banded(block: Block, window: int) -> Block:
    """The same block, whose tokens see the last `window` alone, themselves included."""
    if not isinstance(block.mixer, GroupedQuery):
        raise BadInput(f"{type(block.mixer).__name__} has no window", field="Block.mixer")
    return replace(block, mixer=replace(block.mixer, window=window))


def alternating(dense: Block, band: Block, layers: int) -> tuple[Block, ...]:
    """Dense, banded, dense, banded ...: GPT-3's pattern."""
    return recurring((dense, band), layers)


def recurring(period: tuple[Block, ...], layers: int) -> tuple[Block, ...]:
    """`layers` blocks that repeat a period, cut where the layers end: Gemma 3 is (near,) * 5 + (far,)."""
    if not period:
        raise BadInput("needs at least one block", field="period")
    if layers < 1:
        raise BadInput(f"must be at least 1, is {layers}", field="layers")
    return tuple(period[layer % len(period)] for layer in range(layers))
