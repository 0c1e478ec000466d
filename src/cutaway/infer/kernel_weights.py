"""The matrices of a model as kernels multiply by them: packed in blocks, or plain in fp32, fp16 or bfloat16.

R rows (outputs) · C columns (inputs).   Read next: ops/cpu/pack.py, ops/cpu/plain.py, infer/kernel_plan.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.nn.embedding import Embedding
from cutaway.nn.linear import Linear
from cutaway.nn.quantised import Fan, QuantisedEmbedding, QuantisedLinear
from cutaway.ops.blocks.format import PLAIN as PLAIN_FORMATS
from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.cpu import plain
from cutaway.ops.cpu.pack import GROUP, KINDS, PLAIN, Strips

FORMATS = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}


def multiplies(maps: Sequence[nn.Module]) -> bool:
    """Whether kernels multiply by all of these maps or tables: matrices of whole groups of columns, on the CPU."""
    return all(map(_multiplies, maps))


def _multiplies(one: Any) -> bool:
    if type(one) in (QuantisedLinear, QuantisedEmbedding):
        return one.packed.shape[1] % GROUP == 0 and Strips.fits(one.packed.format, 1)
    known = type(one) in (Linear, Embedding) and one.weight.dtype in PLAIN
    return known and one.weight.shape[1] % GROUP == 0 and one.weight.device.type == "cpu"


def is_plain(one: Any) -> bool:
    """Whether a map's weights are plain, which only floats multiply."""
    packed = type(one) in (QuantisedLinear, QuantisedEmbedding)
    return not packed or KINDS[one.packed.format.name].dtype is not None


def holder(one: Any) -> tuple[nn.Module, str]:
    """The module that holds a map's matrix, and under which name."""
    return (one, "weight") if type(one) in (Linear, Embedding) else (one.packed, "blocks")


def strips(one: Any) -> Strips:
    """A map's matrix (R, C), repacked."""
    if type(one) in (Linear, Embedding):
        return plain.strips(one.weight)
    found = one.packed.strips()
    assert found is not None
    return found


def joined(fan: Fan | None, maps: Sequence[Any]) -> Strips | None:
    """The matrices of several maps as one, their rows end to end; None where one product cannot make them all."""
    if any(one.bias is not None for one in maps) or fan is None:
        return None
    if all(type(one) is Linear for one in maps) and len({one.weight.dtype for one in maps}) == 1:
        return plain.strips(*(one.weight for one in maps))
    whole = fan.joint(tuple(maps))
    return None if whole is None else whole.strips()


def table_of(table: Any) -> tuple[Tensor, BlockFormat]:
    """A token table as it lies, and the format of its rows."""
    if isinstance(table, QuantisedEmbedding):
        return table.packed.blocks, table.packed.format
    return table.weight, PLAIN_FORMATS[FORMATS[table.weight.dtype]]
