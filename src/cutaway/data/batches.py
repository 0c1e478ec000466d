"""Rows of pieces into batches of tokens, each machine its own part, from any point on.

    target of a token = the next one of its document;   of a document's last: `end`, or nothing (IGNORE)
The state is the same on every machine and speaks of all of them: 2 machines with 4 rows each take the same rows as 1
with 8, and go on from one another's state.
N tokens of all sequences, flat · B sequences · T their longest.   Read next: data/packing.py, data/prefetch.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.data.documents import Documents
from cutaway.data.packing import Row, Rows, Sweep


class Resumable(Protocol):
    """Batches in an order that can be left and taken up again: after batch k, `state()` leads to batch k + 1."""

    def __iter__(self) -> Iterator[Batch]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


class Batches:
    """`count` rows a batch on each of `world` machines, of which this is number `rank`.

    `iter` goes on from where the state is. `end`: the id that a document's last token is to predict, for documents that
    were stored without one. With a last epoch, the last batch is smaller, and may be missing on some machines.
    """

    def __init__(self, rows: Rows, *, count: int, end: int | None = None, rank: int = 0, world: int = 1):
        if count < 1:
            raise BadInput(f"a batch has at least 1 row, not {count}", field="count")
        if not 0 <= rank < world:
            raise BadInput(f"machine {rank} is not one of {world}", field="rank")
        self.rows, self.count, self.end, self.rank, self.world = rows, count, end, rank, world

    def __iter__(self) -> Iterator[Batch]:
        while taken := self.rows.take(self.count * self.world):
            mine = taken[self.rank * self.count : (self.rank + 1) * self.count]
            if mine:
                yield batch_of(mine, self.rows.documents, end=self.end)

    def state(self) -> dict[str, Any]:
        return self.rows.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.rows.restore(state)


class Evaluation:
    """A whole split in batches of `count` windows, the same at every `iter`; every token but the first is a target."""

    def __init__(self, documents: Documents, *, length: int, count: int):
        self._rows = Sweep(documents, length=length)
        self.documents, self.length, self.count = documents, length, count

    def __iter__(self) -> Iterator[Batch]:
        return iter(Batches(Sweep(self.documents, length=self.length), count=self.count))

    def __len__(self) -> int:
        rows = -(-(self._rows.tokens - 1) // self.length)
        return -(-rows // self.count)


def batch_of(rows: Sequence[Row], documents: Documents, *, end: int | None = None) -> Batch:
    """Rows of pieces as one flat batch, a sequence for each piece."""
    pieces = [piece for row in rows for piece in row]
    lengths = tuple(piece.stop - piece.start for piece in pieces)
    ids, targets = np.empty(sum(lengths), dtype=np.int64), np.empty(sum(lengths), dtype=np.int64)
    last, all_lengths, at = IGNORE if end is None else end, documents.lengths, 0
    for (document, start, stop), length in zip(pieces, lengths, strict=True):
        more = stop < all_lengths[document]  # the document goes on: what follows the piece is its last target
        tokens = documents.read(document, start, stop + int(more))
        ids[at : at + length] = tokens[:length]
        targets[at : at + len(tokens) - 1] = tokens[1:]
        at += length
        if not more:
            targets[at - 1] = last
    return Batch(ids_N=torch.from_numpy(ids), targets_N=torch.from_numpy(targets), lengths=lengths)


def padded(batch: Batch, *, pad: int = 0, length: int | None = None) -> tuple[Tensor, Tensor]:
    """(ids_BT, mask_BT): the sequences as a rectangle, filled up on the right with `pad`; the mask is True on tokens.

    `length`: the width, where it must be the same for every batch. Raises BadInput if a sequence is longer.
    """
    mask_BT = _mask(batch, length)
    ids_BT = torch.full(mask_BT.shape, pad, dtype=batch.ids_N.dtype, device=batch.ids_N.device)
    ids_BT[mask_BT] = batch.ids_N
    return ids_BT, mask_BT


def padded_targets(batch: Batch, *, length: int | None = None) -> Tensor:
    """(B, T): the targets as `padded` lays out the ids, IGNORE on the padding."""
    if batch.targets_N is None:
        raise BadInput("this batch has no targets", field="Batch.targets_N")
    mask_BT = _mask(batch, length)
    targets_BT = torch.full(mask_BT.shape, IGNORE, dtype=batch.targets_N.dtype, device=batch.targets_N.device)
    targets_BT[mask_BT] = batch.targets_N
    return targets_BT


def flat(ids_BT: Tensor, mask_BT: Tensor, targets_BT: Tensor | None = None) -> Batch:
    """A rectangle as a flat batch; the mask's padding may lie on either side. The inverse of `padded`."""
    if mask_BT.shape != ids_BT.shape or (targets_BT is not None and targets_BT.shape != ids_BT.shape):
        raise BadInput(f"ids, mask and targets have different shapes ({tuple(ids_BT.shape)})", field="mask_BT")
    mask_BT = mask_BT.bool()
    lengths = tuple(mask_BT.sum(dim=1).tolist())
    targets_N = None if targets_BT is None else targets_BT[mask_BT]
    return Batch(ids_N=ids_BT[mask_BT], targets_N=targets_N, lengths=lengths)


def _mask(batch: Batch, length: int | None) -> Tensor:
    longest = max(batch.lengths, default=0)
    if length is not None and longest > length:
        raise BadInput(f"a sequence has {longest} tokens, the rectangle {length}", field="length")
    device = batch.ids_N.device
    lengths_B = torch.tensor(batch.lengths, dtype=torch.long, device=device)
    width = longest if length is None else length
    return torch.arange(width, device=device)[None, :] < lengths_B[:, None]
