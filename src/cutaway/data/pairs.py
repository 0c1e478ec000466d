"""Examples that stand for themselves: a source and its target, a sentence and its class.

Encoder-decoder:   the decoder reads  begin, y_1 ... y_n   and is to say  y_1 ... y_n, end
Examples are made when they are needed and laid end to end, without padding.
N tokens of all sequences, flat · B sequences.   Read next: data/batch.py, data/batches.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import torch

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.data.packing import Shuffle, place_in, refuse_other


def pair(source: Sequence[int], target: Sequence[int], *, begin: int, end: int) -> Batch:
    """One example for an encoder-decoder, from plain ids. T5's `begin` is its padding token."""
    if not source:
        raise BadInput("an encoder must have something to read", field="source")
    ids, targets = [begin, *target], [*target, end]
    read = Batch(ids_N=torch.tensor(source, dtype=torch.long), lengths=(len(source),))
    return Batch(ids_N=torch.tensor(ids), targets_N=torch.tensor(targets), lengths=(len(ids),), source=read)


def labelled(ids: Sequence[int], label: int, *, kinds: Sequence[int] | None = None) -> Batch:
    """One example for classification. `kinds`: BERT's token types, where two sentences are compared."""
    if not ids:
        raise BadInput("a sentence must have a token", field="ids")
    return Batch(
        ids_N=torch.tensor(ids, dtype=torch.long),
        lengths=(len(ids),),
        labels_B=torch.tensor([label]),
        kinds_N=None if kinds is None else torch.tensor(kinds, dtype=torch.long),
    )


def tagged(ids: Sequence[int], tags: Sequence[int]) -> Batch:
    """One example for a class per token; IGNORE where none is asked."""
    return Batch(
        ids_N=torch.tensor(ids, dtype=torch.long), targets_N=torch.tensor(tags, dtype=torch.long), lengths=(len(ids),)
    )


def joined(batches: Sequence[Batch]) -> Batch:
    """Several batches as one. Raises BadInput where some have what others lack."""
    if not batches:
        raise BadInput("there is nothing to join", field="batches")
    if len(batches) == 1:
        return batches[0]
    told: dict[str, Any] = {}
    for field in fields(Batch):
        held = [getattr(batch, field.name) for batch in batches]
        if any(one is None for one in held):
            if any(one is not None for one in held):
                raise BadInput("some of the examples have it, some do not", field=f"Batch.{field.name}")
        elif field.name == "source":
            told["source"] = joined(held)
        elif isinstance(held[0], tuple):
            told[field.name] = tuple(number for one in held for number in one)
        else:
            told[field.name] = torch.cat(held)
    return Batch(**told)


class Examples:
    """`make(k)` is example k of `count`, a batch of its own; `rows` of them make a batch, in another order each epoch.

    State, machines (`rank` of `world`) and a last epoch are as in `Batches`.
    """

    def __init__(
        self,
        make: Callable[[int], Batch],
        count: int,
        *,
        rows: int,
        seed: int = 0,
        epochs: int | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        if count < 1:
            raise BadInput("there is no example", field="count")
        if rows < 1 or (epochs is not None and epochs < 1):
            raise BadInput(f"rows and epochs must be at least 1, are {rows} and {epochs}", field="rows")
        if not 0 <= rank < world:
            raise BadInput(f"machine {rank} is not one of {world}", field="rank")
        self.make, self.count, self.rows, self.seed = make, count, rows, seed
        self.epochs, self.rank, self.world = epochs, rank, world
        self._taken = 0
        self._shuffle = Shuffle(count, seed, True)

    def __iter__(self) -> Iterator[Batch]:
        limit = None if self.epochs is None else self.epochs * self.count
        while limit is None or self._taken < limit:
            first = self._taken
            self._taken += self.rows * self.world
            if limit is not None:
                self._taken = min(self._taken, limit)
            mine = range(first, self._taken)[self.rank * self.rows : (self.rank + 1) * self.rows]
            if mine:
                yield joined([self.make(self._shuffle.at(*divmod(place, self.count))) for place in mine])

    def state(self) -> dict[str, Any]:
        return {**self._marks(), "taken": self._taken}

    def _marks(self) -> dict[str, Any]:
        return {"order": "Examples", "count": self.count, "seed": self.seed}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a `state()`. Raises BadInput for one of other examples."""
        refuse_other(state, self._marks())
        self._taken = place_in(state, "taken")
