"""The cursor reads what is there, and refuses what is not before making room for it."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest

from cutaway.base.errors import BadInput
from cutaway.weights.gguf.cursor import SHOWN, Cursor, shown


def cursor(data: bytes) -> Cursor:
    return Cursor(memoryview(data), Path("some.gguf"))


def test_reads_and_moves_on() -> None:
    place = cursor(struct.pack("<IQ3hQ", 7, 2**63, -1, 0, 5, 3) + "né".encode())
    assert place.uint32("a") == 7
    assert place.uint64("b") == 2**63
    assert place.numbers("h", 3, "c") == [-1, 0, 5]
    assert place.string("d") == "né"
    assert place.left == 0


@pytest.mark.parametrize("size", range(8))
def test_ends_are_noticed(size: int) -> None:
    for read in (Cursor.uint64, Cursor.string):
        with pytest.raises(BadInput, match=f"some.gguf: here: needs 8 bytes at byte 0, .* after {size} more"):
            read(cursor(bytes(size)), "here")


@pytest.mark.parametrize("claim", [4, 2**31, 2**63, 2**64 - 1])
def test_claims_are_held_against_the_file(claim: int) -> None:
    data = struct.pack("<Q", claim) + b"abc"
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=f"here: needs {claim} bytes at byte 8"):
            cursor(data).string("here")
        with pytest.raises(BadInput, match=rf"here\[9\]: needs {claim} bytes"):
            cursor(data).string("here", 9)
        with pytest.raises(BadInput, match=f"here: needs {8 * claim} bytes"):
            cursor(data).numbers("Q", claim, "here")
        with pytest.raises(BadInput, match=f"here: claims {claim} cats, but the 3 bytes left hold at most 1"):
            cursor(data).count(2, "cats", "here")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_count_that_fits_is_taken() -> None:
    assert cursor(struct.pack("<Q", 1) + b"abc").count(3, "cats", "here") == 1


def test_text_must_be_utf8() -> None:
    with pytest.raises(BadInput, match=r"here\[2\]: is not UTF-8: byte 1 of 3"):
        cursor(struct.pack("<Q", 3) + b"a\xffc").string("here", 2)


def test_names_are_shown_safely() -> None:
    assert shown("blk.0.中文") == "blk.0.中文"
    assert "\x1b" not in shown("\x1b[31mred\nline") and "\n" not in shown("\x1b[31mred\nline")
    assert len(shown("x" * 10**6)) == SHOWN
