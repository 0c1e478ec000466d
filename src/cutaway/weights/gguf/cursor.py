"""Read little-endian numbers and strings from bytes that may lie: nothing is made before there is room for it.

Every length is held against what is left of the file before anything of that length is allocated, so reading takes
memory in proportion to the file, whatever its header claims.   Read next: weights/gguf/metadata.py
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NoReturn

import numpy as np

from cutaway.base.errors import BadInput

SHOWN = 60
UINT32, UINT64 = struct.Struct("<I"), struct.Struct("<Q")


def shown(text: str) -> str:
    """A name from a file made safe for one line of a terminal: no control characters, not endless."""
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[: SHOWN + 1])
    return clean if len(clean) <= SHOWN else clean[: SHOWN - 1] + "…"


class Cursor:
    """A place in the bytes of `source`. Each call reads and moves on; `field` says what for, in errors."""

    def __init__(self, data: memoryview, source: Path):
        self.data, self.source, self.place = data, source, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.place

    def fail(self, message: str, field: str) -> NoReturn:
        raise BadInput(message, source=self.source, field=field)

    def need(self, size: int, field: str) -> None:
        """BadInput unless `size` more bytes are there."""
        if size > self.left:
            self.fail(f"needs {size} bytes at byte {self.place}, but the file ends after {self.left} more", field)

    def uint32(self, field: str) -> int:
        self.need(4, field)
        (value,) = UINT32.unpack_from(self.data, self.place)
        self.place += 4
        return value

    def uint64(self, field: str) -> int:
        self.need(8, field)
        (value,) = UINT64.unpack_from(self.data, self.place)
        self.place += 8
        return value

    def count(self, least: int, what: str, field: str) -> int:
        """A uint64 that says how many things of at least `least` bytes each follow; more than fit are refused."""
        value = self.uint64(field)
        if value > self.left // least:
            self.fail(f"claims {value} {what}, but the {self.left} bytes left hold at most {self.left // least}", field)
        return value

    def numbers(self, code: str, count: int, field: str) -> list:
        """`count` numbers of one `struct` letter, as Python numbers."""
        dtype = np.dtype("<" + code)
        self.need(dtype.itemsize * count, field)
        values = np.frombuffer(self.data, dtype, count, self.place)
        self.place += values.nbytes
        return values.tolist()

    def string(self, field: str, index: int | None = None) -> str:
        """UTF-8 after its length. A vocabulary has a quarter of a million: `index` is put into words only in errors."""
        start = self.place + 8
        if start > len(self.data):
            self.need(8, _indexed(field, index))
        (size,) = UINT64.unpack_from(self.data, self.place)
        end = start + size
        if end > len(self.data):
            self.place = start
            self.need(size, _indexed(field, index))
        try:
            text = str(self.data[start:end], "utf-8")
        except UnicodeDecodeError as error:
            self.fail(f"is not UTF-8: byte {error.start} of {size} ({error.reason})", _indexed(field, index))
        self.place = end
        return text


def _indexed(field: str, index: int | None) -> str:
    return field if index is None else f"{field}[{index}]"
