"""Metadata of every type, written byte by byte; what is wrong is refused under its key."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from cutaway.base.errors import BadInput
from cutaway.weights.gguf.cursor import Cursor
from cutaway.weights.gguf.metadata import DEEPEST, read_metadata
from cutaway.weights.gguf.types import ARRAY, SCALARS


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(key: bytes, number: int, payload: bytes) -> bytes:
    return text(key) + struct.pack("<I", number) + payload


def read(*entries: bytes) -> tuple[dict, dict]:
    return read_metadata(Cursor(memoryview(b"".join(entries)), Path("x.gguf")), len(entries))


@pytest.mark.parametrize("number", SCALARS)
def test_every_scalar_and_its_array(number: int) -> None:
    scalar = SCALARS[number]
    one, two = struct.pack("<" + scalar.code, 1), struct.pack(f"<2{scalar.code}", 0, 1)
    array = struct.pack("<IQ", number, 2) + two
    values, types = read(entry(b"one", number, one), entry(b"two", ARRAY, array))
    assert values == {"one": 1, "two": [0, 1]}
    assert types == {"one": scalar.name, "two": f"array {scalar.name}"}
    assert isinstance(values["one"], bool) == (scalar.name == "bool")


def test_strings_and_nested_arrays() -> None:
    inner = struct.pack("<IQ", 8, 2) + text("é".encode()) + text(b"")
    nested = struct.pack("<IQ", ARRAY, 2) + inner + struct.pack("<IQ", 0, 1) + b"\7"
    values, types = read(entry(b"name", 8, text(b"abc")), entry(b"nest", ARRAY, nested))
    assert values == {"name": "abc", "nest": [["é", ""], [7]]}
    assert types == {"name": "string", "nest": "array array string"}


def bomb(depth: int) -> bytes:
    return struct.pack("<IQ", ARRAY, 1) * (depth - 1) + struct.pack("<IQ", 0, 0)


def test_nesting_has_an_end() -> None:
    read(entry(b"deep", ARRAY, bomb(DEEPEST)))
    for depth in (DEEPEST + 1, 100_000):
        with pytest.raises(BadInput, match=f"x.gguf: deep: nests arrays more than {DEEPEST} deep"):
            read(entry(b"deep", ARRAY, bomb(depth)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (entry(b"k", 13, b"\0" * 8), "k: has type 13"),
        (entry(b"k", 7, b"\2"), "k: holds 2 where a bool is 0 or 1"),
        (entry(b"k", ARRAY, struct.pack("<IQ", 7, 3) + b"\0\xff\1"), "k: holds 255 where a bool"),
        (entry(b"k", ARRAY, struct.pack("<IQ", 99, 0)), "k: has elements of type 99"),
        (entry(b"k", ARRAY, struct.pack("<IQ", 4, 2**62) + bytes(8)), f"k: length: claims {2**62} elements"),
        (entry(b"k", ARRAY, struct.pack("<IQ", 8, 3) + text(b"a") + text(b"b")), "k: length: claims 3 elements"),
        (entry(b"k", ARRAY, struct.pack("<IQ", 8, 2) + text(b"aaaaaaaa") + text(b"\xff")), r"k\[1\]: is not UTF-8"),
        (entry(b"\xc3", 4, bytes(4)), "key of metadata entry 0: is not UTF-8"),
        (entry(b"k", 10, bytes(7)), "k: needs 8 bytes"),
        (entry(b"k", 8, struct.pack("<Q", 9) + b"short"), "k: needs 9 bytes"),
        (text(b"k") + b"\0\0\0", "k: type: needs 4 bytes"),
    ],
)
def test_what_is_wrong_is_refused_under_its_key(wrong: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=f"x.gguf: {message}"):
        read(wrong)


def test_a_key_appears_once() -> None:
    with pytest.raises(BadInput, match=r"x\.gguf: k: this metadata key appears twice"):
        read(entry(b"k", 0, b"\1"), entry(b"k", 0, b"\1"))
