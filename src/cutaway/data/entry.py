"""One document as it was read, and where it stood.

Read next: data/readers/sources.py
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """`source`: the file or data set. `place`: the line that it began at, or its row, counted from 1."""

    text: str
    source: str
    place: int
