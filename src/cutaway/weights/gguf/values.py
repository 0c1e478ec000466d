"""Python values as GGUF metadata: which type each gets, and its bytes.

Where no type is asked for, it is what llama.cpp looks for under the keys that it knows: int -> uint32 (a list: int32),
float -> float32, and the 64-bit forms only where a number needs them.   Read next: weights/gguf/metadata.py
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.base.errors import BadInput
from cutaway.weights.gguf.types import ARRAY, BOOL, SCALARS, STRING, VALUE_NUMBERS

INTEGERS = {"uint32": (0, 2**32), "int32": (-(2**31), 2**31), "uint64": (0, 2**64), "int64": (-(2**63), 2**63)}


def pack_entry(source: Path, key: str, value: Any, name: str | None) -> bytes:
    """One metadata entry: key, type and value. BadInput, naming the key, where the value does not fit its type."""
    if not key:
        raise BadInput("metadata needs a key", source=source, field="metadata")
    try:
        value = _plain(value)
        name = name or type_of(value)
        return pack_string(key) + struct.pack("<I", _number(name)) + _pack(value, name)
    except (struct.error, OverflowError, TypeError, ValueError, AttributeError) as error:
        text = error.message if isinstance(error, BadInput) else f"cannot be written as {name}: {error}"
        raise BadInput(text, source=source, field=key) from None


def pack_string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def type_of(value: Any) -> str:
    """The type that a value gets where none is asked for."""
    if isinstance(value, list | tuple):
        return f"array {_element_type(value)}"
    for kind, name in ((bool, "bool"), (float, "float32"), (str, "string")):
        if isinstance(value, kind):
            return name
    if isinstance(value, int):
        return _integer_type([value], ("uint32", "int32", "uint64", "int64"))
    raise BadInput(f"GGUF holds numbers, bools, strings and lists of them, not {type(value).__name__}")


def _element_type(values: Sequence) -> str:
    kinds = set(map(type, values))
    if kinds == {int}:
        return _integer_type(values, ("int32", "uint32", "int64", "uint64"))
    if kinds == {int, float}:
        return "float32"
    names = {type_of(value) for value in values} or {"int32"}  # an empty list has to be a list of something
    if len(names) > 1:
        raise BadInput(f"a list must hold values of one type, not {' and '.join(sorted(names))}")
    return names.pop()


def _integer_type(values: Sequence[int], names: Sequence[str]) -> str:
    """The first of `names` that holds the smallest and the largest of `values`."""
    for name in names:
        least, past = INTEGERS[name]
        if least <= min(values) and max(values) < past:
            return name
    raise BadInput("an integer does not fit into 64 bits")


def _plain(value: Any) -> Any:
    """Numpy's arrays and numbers as Python's."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _number(name: str) -> int:
    if name.startswith("array "):
        return ARRAY
    if name not in VALUE_NUMBERS:
        raise BadInput(f"GGUF has no metadata type {name!r}")
    return VALUE_NUMBERS[name]


def _pack(value: Any, name: str) -> bytes:
    number = _number(name)
    if number == STRING:
        return pack_string(value)
    if number != ARRAY:
        return _pack_scalars([value], number)
    element = name.removeprefix("array ")
    inner = _number(element)
    packed = _pack_scalars(value, inner) if inner in SCALARS else b"".join(_pack(item, element) for item in value)
    return struct.pack("<IQ", inner, len(value)) + packed


def _pack_scalars(values: Sequence, number: int) -> bytes:
    if number == BOOL:
        values = [bool(value) for value in values]
    return struct.pack(f"<{len(values)}{SCALARS[number].code}", *values)
