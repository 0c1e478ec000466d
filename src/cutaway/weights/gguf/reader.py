"""Open a GGUF file: check all that its header says, map the rest.

    magic "GGUF" | version (uint32) | tensor count (uint64) | metadata count (uint64)
    metadata entries:  key, value                                            (weights/gguf/metadata.py)
    tensor entries:    name, number of dimensions (uint32), dimensions (uint64, fastest first), type (uint32), offset
    padding to the alignment
    tensor data, each tensor at its offset from here

The file is not trusted: whatever is wrong with it ends in BadInput naming file and field, within memory proportional to
the file. Versions 2 and 3 are read (they differ in nothing that matters on a little-endian machine).
Source: ggml's GGUF specification, version 3.   Read next: weights/gguf/writer.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.base.errors import BadInput, NotFound
from cutaway.ops.blocks.format import BlockFormat
from cutaway.weights.gguf.cursor import Cursor, shown
from cutaway.weights.gguf.file import GgufFile, GgufTensor
from cutaway.weights.gguf.metadata import SMALLEST_ENTRY, read_metadata
from cutaway.weights.gguf.types import TENSOR_TYPES

MAGIC, VERSIONS, HEADER_BYTES = b"GGUF", (2, 3), 24
MOST_DIMENSIONS, ALIGNMENT, ALIGNMENT_KEY = 4, 32, "general.alignment"
SMALLEST_TENSOR_ENTRY = 8 + 4 + 8 + 4 + 8  # an empty name, one dimension


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """What the header says of one tensor; `offset` counts from where the data begin."""

    name: str
    shape: tuple[int, ...]
    format: BlockFormat
    offset: int
    bytes: int


def read_gguf(path: str | Path) -> GgufFile:
    """The metadata and tensors of a GGUF file; tensor data stay on disk.

    NotFound where there is no such file; BadInput, naming file and field, for everything that is wrong inside.
    """
    path = Path(path)
    file = _mapped(path)
    cursor = Cursor(file.data, path)
    version = _version(cursor)
    tensor_count = cursor.count(SMALLEST_TENSOR_ENTRY, "tensors", "header: tensor count")
    metadata_count = cursor.count(SMALLEST_ENTRY, "entries", "header: metadata count")
    metadata, types = read_metadata(cursor, metadata_count)
    alignment = _alignment(cursor, metadata, types)
    entries = [_entry(cursor, index, alignment) for index in range(tensor_count)]
    data_start = math.ceil(cursor.place / alignment) * alignment
    _check_places(cursor, entries, data_start)
    tensors = {
        entry.name: GgufTensor(
            name=entry.name,
            shape=entry.shape,
            format=entry.format.name,
            offset=data_start + entry.offset,
            bytes=entry.bytes,
            file=file,
        )
        for entry in entries
    }
    return GgufFile(path=path, version=version, alignment=alignment, metadata=metadata, types=types, tensors=tensors)


def _mapped(path: Path) -> np.memmap:
    """All of the file as read-only bytes."""
    size = 0
    try:
        size = path.stat().st_size
        if size >= HEADER_BYTES:
            return np.memmap(path, dtype=np.uint8, mode="r")
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:  # a folder, no permission, a file that shrinks meanwhile
        raise BadInput(f"cannot be read: {error}", source=path, field="file") from None
    raise BadInput(f"is not a GGUF file: {size} bytes are too few for a header", source=path, field="header")


def _version(cursor: Cursor) -> int:
    magic = bytes(cursor.data[:4])
    cursor.place = 4
    version = cursor.uint32("header: version")
    if magic == MAGIC[::-1] or (magic == MAGIC and version & 0xFFFF == 0 and version != 0):
        cursor.fail("is a big-endian GGUF file; only little-endian ones are read", "header: byte order")
    if magic != MAGIC:
        cursor.fail(f'is not a GGUF file: it begins with {magic!r}, not b"GGUF"', "header: magic")
    if version not in VERSIONS:
        cursor.fail(f"is version {version}; versions 2 and 3 are read", "header: version")
    return version


def _alignment(cursor: Cursor, metadata: dict[str, Any], types: dict[str, str]) -> int:
    value = metadata.get(ALIGNMENT_KEY, ALIGNMENT)
    if types.get(ALIGNMENT_KEY, "uint32") != "uint32":
        cursor.fail(f"must be a uint32, not {types[ALIGNMENT_KEY]}", ALIGNMENT_KEY)
    if value == 0 or value & (value - 1):
        cursor.fail(f"must be a power of two, not {value}", ALIGNMENT_KEY)
    return value


def _entry(cursor: Cursor, index: int, alignment: int) -> _Entry:
    """The next tensor entry. Its bytes are not looked for yet: where the data begin is known after the last entry."""
    name = cursor.string(f"name of tensor {index}")
    field = f"tensor {shown(name) or index}"
    dimensions = cursor.uint32(f"{field}: number of dimensions")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        cursor.fail(f"has {dimensions} dimensions; 1 to {MOST_DIMENSIONS} are possible", field)
    shape = tuple(reversed(cursor.numbers("Q", dimensions, f"{field}: dimensions")))
    number = cursor.uint32(f"{field}: type")
    offset = cursor.uint64(f"{field}: offset")
    format = TENSOR_TYPES.get(number)
    if format is None:
        cursor.fail(f"has type {number}, which ggml does not define (or no longer)", f"{field}: type")
    if 0 in shape:
        cursor.fail(f"has a dimension of 0: {_by(shape)}", f"{field}: dimensions")
    if shape[-1] % format.weights:
        cursor.fail(
            f"has rows of {shape[-1]} weights, not a whole number of {format.name} blocks of {format.weights}",
            f"{field}: dimensions",
        )
    size = math.prod(shape) // format.weights * format.bytes  # Python's integers do not overflow
    if size > len(cursor.data):
        cursor.fail(f"{_by(shape)} of {format.name} would take {size} bytes, more than the whole file", field)
    if offset % alignment:
        cursor.fail(f"{offset} is not a multiple of the alignment {alignment}", f"{field}: offset")
    return _Entry(name=name, shape=shape, format=format, offset=offset, bytes=size)


def _check_places(cursor: Cursor, entries: list[_Entry], data_start: int) -> None:
    """Each name once, each tensor inside the file, no two in one place."""
    names: set[str] = set()
    room = max(len(cursor.data) - data_start, 0)
    end, before = 0, ""
    for entry in sorted(entries, key=lambda entry: entry.offset):
        field = f"tensor {shown(entry.name)}"
        if entry.name in names:
            cursor.fail("this tensor name appears twice", field)
        names.add(entry.name)
        if entry.offset + entry.bytes > room:
            cursor.fail(
                f"{entry.bytes} bytes at offset {entry.offset} end beyond the file, which has {room} bytes for tensors",
                f"{field}: offset",
            )
        if entry.offset < end:
            cursor.fail(f"begins at {entry.offset}, inside tensor {before}, which ends at {end}", f"{field}: offset")
        end, before = entry.offset + entry.bytes, shown(entry.name)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
