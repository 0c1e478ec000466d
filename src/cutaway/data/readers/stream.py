"""The bytes of a file, and its text piece by piece: never the whole of it, and never text that is none.

Text is UTF-8; a byte order mark is left out; line ends become \\n, as in Python's text mode.
Read next: data/readers/plain.py
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cutaway.base.errors import BadInput, NotFound
from cutaway.text.corpus import checked_text

PIECE = 1 << 20  # bytes
_WIDE = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32"}  # before UTF-16, whose mark begins like theirs
_WIDE |= {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of `path`, unpacked where it ends in .gz. Raises NotFound, or BadInput for a damaged archive."""
    if not path.exists():
        raise NotFound(f"{path}: there is no such file")
    if path.is_dir():
        raise BadInput("is a folder", source=path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            yield stream  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"a damaged gzip file: {error}", source=path) from error


def pieces(path: Path, size: int = PIECE) -> Iterator[str]:
    """The text of `path` in pieces of about `size` bytes. Raises BadInput, with the byte, for what is no UTF-8 text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    ends = io.IncrementalNewlineDecoder(None, translate=True)
    with opened(path) as stream:
        read, begun = 0, False
        while True:
            chunk = stream.read(size)
            if read == 0:
                refuse_wide(chunk, path)
            if b"\0" in chunk:
                raise BadInput(f"a binary file, not text (byte {read + chunk.index(0)} is zero)", source=path)
            before = read - len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise not_utf8(path, before + error.start, error) from error
            text = ends.decode(text if begun else text.removeprefix("\ufeff"), final=not chunk)
            read, begun = read + len(chunk), begun or bool(text)
            if text:
                yield text
            if not chunk:
                return


def refuse_wide(beginning: bytes, path: Path) -> None:
    """Raises BadInput for a file that begins with the mark of UTF-16 or UTF-32."""
    for mark, name in _WIDE.items():
        if beginning.startswith(mark):
            raise BadInput(f"{name} text (byte 0 begins its mark); convert it to UTF-8 first", source=path)


def not_utf8(path: Path, place: int, error: UnicodeDecodeError, field: str | None = None) -> BadInput:
    """The error for a byte that is no UTF-8, `place` bytes into the file."""
    value = error.object[error.start]
    return BadInput(
        f"not UTF-8 at byte {place} (0x{value:02x}: {error.reason}); convert it first", source=path, field=field
    )


def text_of(value: object, path: Path, place: str) -> str:
    """What stands at `place` of a file. Raises BadInput if it is no text, or holds half a character, as JSON may."""
    if not isinstance(value, str):
        raise BadInput(f"must be text, not {type(value).__name__}", source=path, field=place)
    return checked_text(value, place, source=path)
