"""Python values get the types that llama.cpp looks for, and what fits no type is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutaway.base.errors import BadInput
from cutaway.weights.gguf.cursor import Cursor
from cutaway.weights.gguf.metadata import read_metadata
from cutaway.weights.gguf.values import pack_entry, type_of

HERE = Path("x.gguf")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "bool"),
        (0, "uint32"),
        (2**32 - 1, "uint32"),
        (-1, "int32"),
        (2**32, "uint64"),
        (-(2**31) - 1, "int64"),
        (0.5, "float32"),
        ("", "string"),
        ([1, 2], "array int32"),
        ([1, 2**31], "array uint32"),
        ([-1, 2**31], "array int64"),
        ([1, 2**64 - 1], "array uint64"),
        ([1, 0.5], "array float32"),
        ([True], "array bool"),
        (("a", "b"), "array string"),
        ([], "array int32"),
        ([[1], [2, 3]], "array array int32"),
    ],
)
def test_types_follow_values(value: Any, name: str) -> None:
    assert type_of(value) == name
    values, types = read_metadata(Cursor(memoryview(pack_entry(HERE, "key", value, None)), HERE), 1)
    assert values == {"key": list(value) if isinstance(value, tuple) else value}
    assert types == {"key": name}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (200, "uint8"),
        (-100, "int8"),
        (60000, "uint16"),
        (-30000, "int16"),
        (1, "int64"),
        (0.1, "float64"),
        ([0.1, -2.5], "array float64"),
        ([1, 0], "array bool"),
        ([], "array string"),
        ([["a"], []], "array array string"),
    ],
)
def test_a_type_can_be_asked_for(value: Any, name: str) -> None:
    values, types = read_metadata(Cursor(memoryview(pack_entry(HERE, "key", value, name)), HERE), 1)
    assert values == {"key": value}
    assert types == {"key": name}


def test_numpy_values_are_numbers() -> None:
    assert pack_entry(HERE, "k", np.float32(0.5), None) == pack_entry(HERE, "k", 0.5, None)
    assert pack_entry(HERE, "k", np.arange(3), None) == pack_entry(HERE, "k", [0, 1, 2], None)


@pytest.mark.parametrize(
    ("value", "name", "message"),
    [
        (None, None, "not NoneType"),
        ({"a": 1}, None, "not dict"),
        ([1, "a"], None, "of one type, not string and uint32"),
        (2**64, None, "does not fit into 64 bits"),
        (1e300, None, "cannot be written as float32"),
        ("\ud800", None, "cannot be written as string"),
        (300, "uint8", "cannot be written as uint8"),
        ("a", "uint8", "cannot be written as uint8"),
        (3, "string", "cannot be written as string"),
        (3, "array int32", "cannot be written as array int32"),
        (3, "int128", "no metadata type 'int128'"),
    ],
)
def test_what_does_not_fit_is_refused(value: Any, name: str | None, message: str) -> None:
    with pytest.raises(BadInput, match=f"x.gguf: some.key: .*{message}"):
        pack_entry(HERE, "some.key", value, name)


def test_a_key_is_needed() -> None:
    with pytest.raises(BadInput, match="needs a key"):
        pack_entry(HERE, "", 1, None)
