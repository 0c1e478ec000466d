"""The metadata of a GGUF file: named values, each saying its type.

    value    type (uint32), then the number, the bool byte, or a string
    string   length (uint64), then UTF-8
    array    element type (uint32), count (uint64), then the elements; arrays of arrays nest

Values become plain Python (int, float, bool, str, list). Their types are kept beside them, as "uint32", "string",
"array float32", so that a file can be written back as it was.
Source: ggml's GGUF specification, version 3.   Read next: weights/gguf/reader.py
"""

from __future__ import annotations

from typing import Any

from cutaway.weights.gguf.cursor import Cursor, shown
from cutaway.weights.gguf.types import ARRAY, BOOL, SCALARS, STRING

DEEPEST = 4
"""Arrays may nest this deep. Real files do not nest them; the bound keeps a hostile one from exhausting the stack."""

SMALLEST = {STRING: 8, ARRAY: 12} | {number: scalar.bytes for number, scalar in SCALARS.items()}
SMALLEST_ENTRY = 8 + 4 + 1  # an empty key, a type, one byte


def read_metadata(cursor: Cursor, count: int) -> tuple[dict[str, Any], dict[str, str]]:
    """`count` entries from the cursor on: values by key, and types by key."""
    values: dict[str, Any] = {}
    types: dict[str, str] = {}
    for index in range(count):
        key = cursor.string(f"key of metadata entry {index}")
        field = shown(key)
        if key in values:
            cursor.fail("this metadata key appears twice", field)
        values[key], types[key] = _value(cursor, cursor.uint32(f"{field}: type"), field, 0)
    return values, types


def _value(cursor: Cursor, number: int, field: str, depth: int) -> tuple[Any, str]:
    """One value of the type with that number, and the type's name."""
    if number == STRING:
        return cursor.string(field), "string"
    if number == ARRAY:
        values, name = _array(cursor, field, depth + 1)
        return values, f"array {name}"
    scalar = SCALARS.get(number)
    if scalar is None:
        cursor.fail(f"has type {number}, which GGUF does not define", field)
    (value,) = _scalars(cursor, number, 1, field)
    return value, scalar.name


def _array(cursor: Cursor, field: str, depth: int) -> tuple[list, str]:
    """The elements of an array and the name of their type; of nested arrays, the type that the first one has."""
    if depth > DEEPEST:
        cursor.fail(f"nests arrays more than {DEEPEST} deep", field)
    number = cursor.uint32(f"{field}: type of elements")
    if number not in SMALLEST:
        cursor.fail(f"has elements of type {number}, which GGUF does not define", field)
    count = cursor.count(SMALLEST[number], "elements", f"{field}: length")
    if number == STRING:
        return [cursor.string(field, index) for index in range(count)], "string"
    if number == ARRAY:
        nested = [_array(cursor, field, depth + 1) for _ in range(count)]
        return [values for values, _ in nested], f"array {nested[0][1] if nested else 'int32'}"
    return _scalars(cursor, number, count, field), SCALARS[number].name


def _scalars(cursor: Cursor, number: int, count: int, field: str) -> list:
    values = cursor.numbers(SCALARS[number].code, count, field)
    if number != BOOL:
        return values
    if count and max(values) > 1:
        cursor.fail(f"holds {max(values)} where a bool is 0 or 1", field)
    return [value == 1 for value in values]
