"""Which tokens go into which row: documents packed into rows of one length, in whole numbers, without a tensor.

A row is a tuple of pieces, and each piece becomes a sequence of its own: attention never crosses from one to the next.
    Streamed   documents end to end, cut where a row ends; the rest opens the next row; nothing is wasted
    Fitted     whole documents, each into the row that it fills best (Ding et al. 2024, arXiv 2404.10830)
    Windows    nanoGPT's way: pieces of one long stream from anywhere, no boundaries, no epochs
    Sweep      that stream once through, side by side: every token but the first is predicted exactly once
Departure: longer documents than a row are cut in `Fitted` too, and whatever follows a cut is the target before it.
All take rows in an order that depends on nothing but the seed, and say and restore where they are.
Read next: data/batches.py, data/mixture.py
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any, NamedTuple, Protocol

import numpy as np

from cutaway.base.errors import BadInput
from cutaway.data.documents import Documents, Joined
from cutaway.data.permutation import Permutation, mixed, subseed


class Piece(NamedTuple):
    """Tokens `start` to `stop` of one document."""

    document: int
    start: int
    stop: int


Row = tuple[Piece, ...]


class Rows(Protocol):
    """An order in which rows come. `documents`: what the pieces speak of. `length`: the longest row."""

    @property
    def documents(self) -> Documents: ...
    @property
    def length(self) -> int: ...

    def take(self, count: int) -> list[Row]:
        """The next `count` rows; fewer at the end, and then none."""
        ...

    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


def refuse_other(state: dict[str, Any], marks: dict[str, Any]) -> None:
    """Raises BadInput for a state that was saved with other `marks`: it would lead to other rows here."""
    for name, now in marks.items():
        if state.get(name) != now:
            raise BadInput(f"the state was saved with {state.get(name)!r}, here it is {now!r}", field=name)


def place_in(state: dict[str, Any], name: str) -> int:
    """The place that a state tells by `name`. Raises BadInput for what is none."""
    place = state.get(name)
    if type(place) is not int or place < 0:
        raise BadInput(f"must be a whole number, is {place!r}", field=name)
    return place


class Ordered:
    """What all orders share: a cursor of whole numbers, with the marks of what it was a cursor over."""

    def __init__(self, documents: Documents, length: int, seed: int, epochs: int | None):
        if length < 1:
            raise BadInput(f"a row holds at least 1 token, not {length}", field="length")
        if epochs is not None and epochs < 1:
            raise BadInput(f"must be at least 1, is {epochs}", field="epochs")
        self.documents, self.length, self.seed, self.epochs = documents, length, seed, epochs
        self.tokens = int(documents.lengths.sum())
        if not self.tokens:
            raise BadInput("the corpus is empty: no document has a token", field="documents")
        self.cursor = {"epoch": 0, "place": 0, "offset": 0}

    def marks(self) -> dict[str, Any]:
        """What a state belongs to: with other data or settings it would mean other rows."""
        return {
            "order": type(self).__name__,
            "documents": len(self.documents.lengths),
            "tokens": self.tokens,
            "length": self.length,
            "seed": self.seed,
        }

    def state(self) -> dict[str, Any]:
        return {**self.marks(), **self.cursor}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a `state()`. Raises BadInput for one of other data or settings."""
        refuse_other(state, self.marks())
        self.cursor = {name: place_in(state, name) for name in self.cursor}

    def restart(self) -> None:
        """Back to the first row."""
        self.cursor = dict.fromkeys(self.cursor, 0)

    def over(self) -> bool:
        return self.epochs is not None and self.cursor["epoch"] >= self.epochs


class Shuffle:
    """`count` things in another order each epoch, or always in their own (`shuffled` False)."""

    def __init__(self, count: int, seed: int, shuffled: bool):
        self.count, self._seed, self._shuffled = count, seed, shuffled
        self._epoch, self._order = -1, None

    def at(self, epoch: int, place: int) -> int:
        if not self._shuffled:
            return place
        if epoch != self._epoch or self._order is None:
            self._epoch, self._order = epoch, Permutation(self.count, subseed(self._seed, epoch))
        return self._order[place]


class Streamed(Ordered):
    """Documents end to end in a new order each epoch, cut into rows of exactly `length`.

    Rows run on from one epoch into the next; only the very last row of a last epoch is shorter.
    """

    def __init__(
        self,
        documents: Documents,
        *,
        length: int,
        seed: int = 0,
        shuffled: bool = True,
        epochs: int | None = None,
    ):
        super().__init__(documents, length, seed, epochs)
        self._shuffle = Shuffle(len(documents.lengths), seed, shuffled)
        self.waste = 0.0

    def take(self, count: int) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < count and not self.over():
            rows.append(self._row())
        return rows

    def _row(self) -> Row:
        pieces, room, cursor, lengths = [], self.length, self.cursor, self.documents.lengths
        while room and not self.over():
            document = self._shuffle.at(cursor["epoch"], cursor["place"])
            start, end = cursor["offset"], int(lengths[document])
            stop = min(end, start + room)
            if stop > start:
                pieces.append(Piece(document, start, stop))
                room -= stop - start
            cursor["offset"] = stop
            while cursor["offset"] >= end:  # so that no cursor stands behind a document, or before an empty one
                cursor["offset"], cursor["place"] = 0, cursor["place"] + 1
                if cursor["place"] == self._shuffle.count:
                    cursor["place"], cursor["epoch"] = 0, cursor["epoch"] + 1
                if self.over():
                    break
                end = int(lengths[self._shuffle.at(cursor["epoch"], cursor["place"])])
        return tuple(pieces)


class Fitted(Ordered):
    """Whole documents, packed once by best fit; the rows come in a new order each epoch.

    `waste`: the share of all rows' places that stays empty. Takes 24 bytes of memory for each document.
    """

    def __init__(
        self,
        documents: Documents,
        *,
        length: int,
        seed: int = 0,
        shuffled: bool = True,
        epochs: int | None = None,
    ):
        super().__init__(documents, length, seed, epochs)
        counts = -(-documents.lengths // length)  # pieces of each document, rounded up
        document = np.repeat(np.arange(len(counts)), counts)
        start = (np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)) * length
        stop = np.minimum(start + length, documents.lengths[document])
        rows = best_fit(stop - start, length)
        order = np.array([piece for row in rows for piece in row], dtype=np.int64)
        self._pieces = np.stack([document, start, stop], axis=1)[order]
        self._edges = np.cumsum([0, *(len(row) for row in rows)])
        self._shuffle = Shuffle(len(rows), seed, shuffled)
        self.waste = 1 - self.tokens / (len(rows) * length)

    def __len__(self) -> int:
        """Rows in an epoch."""
        return self._shuffle.count

    def take(self, count: int) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < count and not self.over():
            row = self._shuffle.at(self.cursor["epoch"], self.cursor["place"])
            pieces = self._pieces[self._edges[row] : self._edges[row + 1]].tolist()
            rows.append(tuple(Piece(*piece) for piece in pieces))
            self.cursor["place"] += 1
            if self.cursor["place"] == self._shuffle.count:
                self.cursor.update(place=0, epoch=self.cursor["epoch"] + 1)
        return rows


def best_fit(sizes: np.ndarray, length: int) -> list[list[int]]:
    """Rows of pieces: the largest pieces first, each into the fullest row that still has room for it.

    `sizes` are all from 1 to `length`. About a microsecond a piece.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(length + 1)]  # rows by the room that they have left
    rooms: list[int] = []  # those rooms that some row has, ascending
    for piece in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[piece])
        at = bisect_left(rooms, size)
        if at == len(rooms):
            row, room = len(rows), length
            rows.append([])
        else:
            room = rooms[at]
            row = with_room[room].pop()
            if not with_room[room]:
                rooms.pop(at)
        rows[row].append(piece)
        room -= size
        if room:
            if not with_room[room]:
                insort(rooms, room)
            with_room[room].append(row)
    return rows


class Windows(Ordered):
    """`length` tokens from anywhere in one long stream, again and again: row k depends on the seed and k alone."""

    def __init__(self, documents: Documents, *, length: int, seed: int = 0):
        super().__init__(Joined(documents), length, seed, None)
        self._room = self.tokens - length
        if self._room < 1:
            raise BadInput(f"the corpus has {self.tokens} tokens, too few for windows of {length}", field="length")
        self.waste = 0.0

    def take(self, count: int) -> list[Row]:
        first = self.cursor["place"]
        starts = mixed(self.seed, np.arange(first, first + count)) % np.uint64(self._room)
        self.cursor["place"] = first + count
        return [(Piece(0, start, start + self.length),) for start in starts.tolist()]


class Sweep(Ordered):
    """One long stream from beginning to end, `length` tokens a row, for evaluation: each row begins where the last one
    ended, without sight of it."""

    def __init__(self, documents: Documents, *, length: int):
        super().__init__(Joined(documents), length, 0, 1)
        if self.tokens < 2:
            raise BadInput("a single token leaves nothing to predict", field="documents")
        self.waste = 0.0

    def take(self, count: int) -> list[Row]:
        last = self.tokens - 1  # has nothing behind it to be predicted from it
        rows: list[Row] = []
        while len(rows) < count and self.cursor["place"] < last:
            start = self.cursor["place"]
            self.cursor["place"] = min(start + self.length, last)
            rows.append((Piece(0, start, self.cursor["place"]),))
        return rows
