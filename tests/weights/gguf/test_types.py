"""Both tables hold what ggml's do."""

from __future__ import annotations

import struct

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from cutaway.ops.blocks.format import FORMATS, PLAIN
from cutaway.weights.gguf.types import SCALARS, TENSOR_TYPES, TYPE_NUMBERS, VALUE_NUMBERS


def test_tensor_types_are_those_of_ggml() -> None:
    """Every number of ours is the twin's. The twin may know newer ones that this release of Cutaway does not."""
    for number, format in TENSOR_TYPES.items():
        theirs = GGMLQuantizationType(number)
        assert format.name == theirs.name.lower()
        assert (format.weights, format.bytes) == GGML_QUANT_SIZES[theirs]
        assert TYPE_NUMBERS[format.name] == number


def test_all_readable_formats_have_a_number() -> None:
    assert {*FORMATS, *PLAIN} <= set(TYPE_NUMBERS)


def test_value_types_are_those_of_ggml() -> None:
    theirs = {kind.name.lower(): kind.value for kind in GGUFValueType if kind != GGUFValueType.ARRAY}
    assert theirs == VALUE_NUMBERS
    assert all(struct.calcsize("<" + scalar.code) == scalar.bytes for scalar in SCALARS.values())
