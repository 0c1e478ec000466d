"""The two tables that GGUF files refer to by number: tensor types (with their block sizes) and metadata value types.

Source: `enum ggml_type` and `enum gguf_type` of ggml. All tensor types that ggml still reads are listed, so that any
file can be opened and looked at; which of them become numbers is the table in ops/blocks/format.py.
Read next: weights/gguf/cursor.py
"""

from __future__ import annotations

from dataclasses import dataclass

from cutaway.ops.blocks.format import FORMATS, PLAIN, BlockFormat


def _listed(name: str, weights: int, size: int) -> BlockFormat:
    return BlockFormat(name=name, weights=weights, bytes=size)


TENSOR_TYPES: dict[int, BlockFormat] = {
    0: PLAIN["f32"],
    1: PLAIN["f16"],
    2: FORMATS["q4_0"],
    3: FORMATS["q4_1"],
    6: FORMATS["q5_0"],
    7: FORMATS["q5_1"],
    8: FORMATS["q8_0"],
    9: _listed("q8_1", 32, 40),
    10: _listed("q2_k", 256, 84),
    11: _listed("q3_k", 256, 110),
    12: FORMATS["q4_k"],
    13: FORMATS["q5_k"],
    14: FORMATS["q6_k"],
    15: _listed("q8_k", 256, 292),
    16: _listed("iq2_xxs", 256, 66),
    17: _listed("iq2_xs", 256, 74),
    18: _listed("iq3_xxs", 256, 98),
    19: _listed("iq1_s", 256, 50),
    20: _listed("iq4_nl", 32, 18),
    21: _listed("iq3_s", 256, 110),
    22: _listed("iq2_s", 256, 82),
    23: _listed("iq4_xs", 256, 136),
    24: _listed("i8", 1, 1),
    25: _listed("i16", 1, 2),
    26: _listed("i32", 1, 4),
    27: _listed("i64", 1, 8),
    28: _listed("f64", 1, 8),
    29: _listed("iq1_m", 256, 56),
    30: PLAIN["bf16"],
    34: _listed("tq1_0", 256, 54),
    35: _listed("tq2_0", 256, 66),
    39: _listed("mxfp4", 32, 17),
    40: _listed("nvfp4", 64, 36),
    41: _listed("q1_0", 128, 18),
}
TYPE_NUMBERS = {format.name: number for number, format in TENSOR_TYPES.items()}


@dataclass(frozen=True, kw_only=True)
class ValueType:
    """A metadata scalar: `code` is its letter in Python's `struct`, `bytes` its size in the file."""

    name: str
    number: int
    code: str
    bytes: int


SCALARS: dict[int, ValueType] = {
    number: ValueType(name=name, number=number, code=code, bytes=size)
    for number, name, code, size in (
        (0, "uint8", "B", 1),
        (1, "int8", "b", 1),
        (2, "uint16", "H", 2),
        (3, "int16", "h", 2),
        (4, "uint32", "I", 4),
        (5, "int32", "i", 4),
        (6, "float32", "f", 4),
        (7, "bool", "B", 1),
        (10, "uint64", "Q", 8),
        (11, "int64", "q", 8),
        (12, "float64", "d", 8),
    )
}
STRING, ARRAY, BOOL = 8, 9, 7
VALUE_NUMBERS = {scalar.name: scalar.number for scalar in SCALARS.values()} | {"string": STRING}
VALUE_NAMES = {number: name for name, number in VALUE_NUMBERS.items()}
