"""A model's matrices put into another precision, each on its own, so that no more than one is held twice.

What is rounded is what was loaded: a file in 4 bits has lost already what 4 bits lose, and another rounding adds to it.
The token table, which often is the head too, keeps 8 bits where the others have fewer, as files in GGUF's formats do.
Norms, biases and everything else that is no linear map and no table stay as they are.
Read next: ops/blocks/scheme.py, nn/quantised.py
"""

# R rows (outputs) · C columns (inputs)

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.nn.embedding import Embedding
from cutaway.nn.linear import Linear
from cutaway.nn.quantised import QuantisedEmbedding, QuantisedLinear
from cutaway.ops.blocks.absmax import quantise_absmax
from cutaway.ops.blocks.format import FORMATS, PLAIN, BlockFormat
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.blocks.scheme import Absmax
from cutaway.ops.packed import Packed
from cutaway.weights.assemble import Unfilled
from cutaway.weights.parameters import held, plain

Precision = Absmax | BlockFormat
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def packed_in(weight_RC: Tensor, precision: Precision) -> Packed:
    """A matrix of numbers, rounded. Raises BadInput where its rows do not end on a block, or hold what is no number."""
    if isinstance(precision, Absmax):
        blocks, format = quantise_absmax(weight_RC, precision)
        return Packed(blocks=blocks, format=format)
    return Packed(blocks=quantise(weight_RC.detach(), precision), format=precision)


def of_a_table(precision: Precision) -> Precision:
    """What a token table is rounded to where the other matrices are in `precision`."""
    if isinstance(precision, Absmax):
        return replace(precision, bits=8)
    return precision if precision.name in PLAIN else FORMATS["q8_0"]


def put_in(module: nn.Module, precision: Precision) -> None:
    """Replaces every linear map and token table of `module` by one in `precision`; plain dtypes are what the whole
    module then computes in. Raises BadInput, naming the part, where its rows cannot be rounded so."""
    dtype = None if isinstance(precision, Absmax) else DTYPES.get(precision.name)
    for name, part in list(module.named_modules()):
        if not isinstance(part, Linear | Embedding | QuantisedLinear | QuantisedEmbedding):
            continue
        table = isinstance(part, Embedding | QuantisedEmbedding)
        weight_RC = plain(held(part, "weight"))
        if dtype is not None:
            made: nn.Module = _unpacked(part, weight_RC)
        else:
            try:
                packed = packed_in(weight_RC, of_a_table(precision) if table else precision)
            except BadInput as error:
                raise BadInput(error.message, field=f"{name}.weight") from error
            made = QuantisedEmbedding(packed, _dtype(part)) if table else _linear(packed, getattr(part, "bias", None))
        module.set_submodule(name, made)
    if dtype is not None:
        module.to(dtype)


def _linear(packed: Packed, bias: nn.Parameter | None) -> QuantisedLinear:
    made = QuantisedLinear(packed)
    made.bias = bias  # the parameter itself, with its own wish for a gradient
    return made


def _dtype(part: nn.Module) -> torch.dtype:
    return part.like.dtype if isinstance(part, QuantisedEmbedding) else part.weight.dtype  # type: ignore[return-value]


def _unpacked(part: nn.Module, weight_RC: Tensor) -> nn.Module:
    """The plain part of the same numbers; one that is plain already stays what it is."""
    if isinstance(part, Linear | Embedding):
        return part
    with torch.device("meta"), Unfilled():
        rows, columns = weight_RC.shape
        made = Embedding(rows, columns) if isinstance(part, QuantisedEmbedding) else Linear(columns, rows)
    made.weight = nn.Parameter(weight_RC)
    if isinstance(made, Linear) and isinstance(part, QuantisedLinear):
        made.bias = part.bias
    return made
