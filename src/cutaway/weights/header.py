"""The header of a .safetensors file, checked against the file before anything is read or made room for.

8 bytes of length (little-endian), that many bytes of JSON {name: {dtype, shape, data_offsets}}, then the data.
https://huggingface.co/docs/safetensors/index#format.   Departure: a header of more than 32 MB is refused (theirs: 100).
Read next: weights/checkpoint.py
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from cutaway.base.errors import BadInput
from cutaway.weights.fields import parse_object

LONGEST = 2**25
# Bytes of one number of each kind. Kinds of less than a byte are unknown here.
BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor as the header describes it; `start` and `end` count bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """All tensors of a file by name. Raises BadInput, naming the field, where header and file disagree."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8:
                raise BadInput(f"{size} bytes are too few for a .safetensors file", source=path)
            if length > min(size - 8, LONGEST):
                message = (
                    f"says {length} bytes of header, the file has {size} in all: not a .safetensors file, or cut off"
                )
                raise BadInput(message, source=path, field="header length")
            text = file.read(length)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}", source=path) from error
    data = parse_object(text, path)
    data.pop("__metadata__", None)
    entries = {name: _entry(name, told, path) for name, told in data.items()}
    _check_layout(entries, size - 8 - length, path)
    return entries


def _entry(name: str, told: Any, path: Path) -> Entry:
    def refuse(field: str, why: str) -> NoReturn:
        raise BadInput(why, source=path, field=f"{name[:200]}.{field}" if field else name[:200])

    if not isinstance(told, dict):
        refuse("", "expected an object with dtype, shape and data_offsets")
    dtype, shape, offsets = told.get("dtype"), _counts(told.get("shape")), _counts(told.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in BYTES:
        refuse("dtype", f"{dtype!r:.40} is not known (known: {', '.join(BYTES)})")
    if shape is None:
        refuse("shape", f"expected up to 8 whole numbers, not {told.get('shape')!r:.60}")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        refuse("data_offsets", f"expected a start and an end, not {told.get('data_offsets')!r:.60}")
    needed, given = prod(shape) * BYTES[dtype], offsets[1] - offsets[0]
    if needed != given:
        refuse("data_offsets", f"{given} bytes are given to shape {shape} of {dtype}, which takes {needed}"[:300])
    return Entry(dtype=dtype, shape=shape, start=offsets[0], end=offsets[1])


def _counts(value: Any) -> tuple[int, ...] | None:
    """A list of few whole numbers that fit in 63 bits; None for anything else."""
    fits = isinstance(value, list) and len(value) <= 8 and all(type(one) is int and 0 <= one < 2**63 for one in value)
    return tuple(value) if fits else None


def _check_layout(entries: dict[str, Entry], size: int, path: Path) -> None:
    """The tensors must fill the data from its start to its end, without overlap or gap."""
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != at:
            message = f"starts at byte {entry.start} of the data, the tensor before it ends at {at}"
            raise BadInput(message, source=path, field=f"{name[:200]}.data_offsets")
        if entry.end > size:
            message = f"ends at byte {entry.end} of the data, the file has only {size}: cut off?"
            raise BadInput(message, source=path, field=f"{name[:200]}.data_offsets")
        at = entry.end
    if at != size:
        raise BadInput(f"the file has {size} bytes of data, its tensors take {at}", source=path)
