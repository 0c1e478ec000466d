"""Pages that hold plain values, so that what a sequence would read shows: each value tells its token's whole past."""

from __future__ import annotations

from collections.abc import Sequence

from cutaway.infer.block_tables import GONE, BlockTables, Copy


def value(tokens: Sequence[int], place: int) -> int:
    """What a model keeps of a token depends on all before it."""
    return hash(tuple(tokens[: place + 1]))


class Book:
    """Writes and reads as a model's pass does. A page that was never written, or for another text, is found out."""

    def __init__(self, tables: BlockTables):
        self.tables = tables
        self.lines: dict[tuple[int, int, int], int] = {}  # pool, page, place in it

    def copy(self, copies: Sequence[Copy]) -> None:
        for one in copies:
            for place in range(self.tables.page):
                self.lines.pop((one.pool, one.target, place), None)
                if one.source is None:
                    self.lines[one.pool, one.target, place] = 0
                elif (one.pool, one.source, place) in self.lines:
                    self.lines[one.pool, one.target, place] = self.lines[one.pool, one.source, place]

    def write(self, owner: int, tokens: Sequence[int], start: int, end: int) -> None:
        """A pass over tokens start .. end - 1, each reading what it may see behind it, then writing its own."""
        for index, keep in enumerate(self.tables.keeps):
            row = self.tables.rows(owner, index)
            if keep.whole:
                held = self.lines[index, row[0], 0]
                assert held == (value(tokens, start - 1) if start else 0), "another sequence's state"
                self.lines[index, row[0], 0] = value(tokens, end - 1)
                continue
            for place in range(start, end):
                self._put(index, row, place, value(tokens, place))
        self.read(owner, tokens, start, end)

    def read(self, owner: int, tokens: Sequence[int], start: int, end: int) -> None:
        """All that tokens start .. end - 1 may see is there, and theirs."""
        for index, keep in enumerate(self.tables.keeps):
            row = self.tables.rows(owner, index)
            if keep.whole:
                continue
            oldest = 0 if keep.last is None else max(0, start - keep.last + 1)
            for place in {*range(min(keep.first, end)), *range(oldest, end)}:
                assert row[place // self.tables.page] != GONE, f"token {place} is gone"
                assert self._get(index, row, place) == value(tokens, place), f"token {place} is another's"

    def _put(self, pool: int, row: Sequence[int], place: int, value: int) -> None:
        self.lines[pool, row[place // self.tables.page], place % self.tables.page] = value

    def _get(self, pool: int, row: Sequence[int], place: int) -> int | None:
        return self.lines.get((pool, row[place // self.tables.page], place % self.tables.page))
