"""Write a GGUF file, version 3, one tensor at a time.

The layout is drawn in weights/gguf/reader.py. All names, shapes and formats come first in the file, so they must be
known before the first number is; the numbers may be functions, called when their turn comes, so that one tensor at a
time is in memory.   Read next: weights/gguf/values.py
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.base.errors import BadInput
from cutaway.base.paths import atomic
from cutaway.weights.gguf.reader import ALIGNMENT, ALIGNMENT_KEY, MAGIC, MOST_DIMENSIONS
from cutaway.weights.gguf.types import TENSOR_TYPES, TYPE_NUMBERS
from cutaway.weights.gguf.values import pack_entry, pack_string

Bytes = bytes | bytearray | memoryview | np.ndarray
Payload = Bytes | Callable[[], Bytes]


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """A tensor with its place: `offset` from where the data begin."""

    name: str
    shape: tuple[int, ...]
    number: int
    offset: int
    bytes: int
    payload: Payload


def write_gguf(
    path: str | Path,
    metadata: Mapping[str, Any],
    tensors: Iterable[tuple[str, Sequence[int], str, Payload]],
    *,
    types: Mapping[str, str] | None = None,
) -> None:
    """Write `path` whole or not at all. A tensor is (name, shape in torch's order, format, bytes or what returns them).

    `types` names the type of a metadata value where the one that Python's suggests is not wanted ("uint64",
    "array uint8"; weights/gguf/values.py); `GgufFile.types` is such a table. `general.alignment` is honoured.
    BadInput names the entry or tensor that cannot be written, or that has more or fewer bytes than its shape takes.
    """
    path, types = Path(path), types or {}
    alignment = metadata.get(ALIGNMENT_KEY, ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment < 1 << 32 or alignment & (alignment - 1):
        raise BadInput(f"must be a power of two, not {alignment!r}", source=path, field=ALIGNMENT_KEY)
    planned = list(_plan(path, tensors, alignment))
    header = bytearray(MAGIC + struct.pack("<IQQ", 3, len(planned), len(metadata)))
    for key, value in metadata.items():
        header += pack_entry(path, key, value, types.get(key))
    for tensor in planned:
        header += pack_string(tensor.name)
        header += struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
        header += struct.pack("<IQ", tensor.number, tensor.offset)
    with atomic(path) as partial, partial.open("wb") as file:
        file.write(header)
        file.write(bytes(-len(header) % alignment))
        for tensor in planned:
            file.write(_bytes_of(path, tensor))
            file.write(bytes(-tensor.bytes % alignment))


def _plan(path: Path, tensors: Iterable[tuple[str, Sequence[int], str, Payload]], alignment: int) -> Iterator[_Planned]:
    """Each tensor checked and given its place, one after the other, each begun on the alignment."""
    names: set[str] = set()
    offset = 0
    for name, shape, format_name, payload in tensors:
        field, shape = f"tensor {name}", tuple(int(size) for size in shape)
        if not name or name in names:
            raise BadInput("each tensor needs a name of its own", source=path, field=field)
        names.add(name)
        if format_name not in TYPE_NUMBERS:
            raise BadInput(f"GGUF has no format {format_name!r}", source=path, field=field)
        if not 1 <= len(shape) <= MOST_DIMENSIONS or min(shape) < 1:
            raise BadInput(
                f"shape {shape} needs 1 to {MOST_DIMENSIONS} dimensions, none of them 0", source=path, field=field
            )
        number = TYPE_NUMBERS[format_name]
        try:
            size = math.prod(shape[:-1]) * TENSOR_TYPES[number].row_bytes(shape[-1])
        except BadInput as error:
            raise BadInput(error.message, source=path, field=field) from None
        yield _Planned(name=name, shape=shape, number=number, offset=offset, bytes=size, payload=payload)
        offset += math.ceil(size / alignment) * alignment


def _bytes_of(path: Path, tensor: _Planned) -> memoryview:
    """The tensor's bytes, made now if they are to be made."""
    payload = tensor.payload() if callable(tensor.payload) else tensor.payload
    raw = np.ascontiguousarray(payload).data if isinstance(payload, np.ndarray) else memoryview(payload)
    raw = raw.cast("B")
    if raw.nbytes != tensor.bytes:
        raise BadInput(
            f"{raw.nbytes} bytes were given for shape {tensor.shape}, which takes {tensor.bytes}",
            source=path,
            field=f"tensor {tensor.name}",
        )
    return raw
