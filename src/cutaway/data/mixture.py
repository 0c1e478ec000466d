"""Rows from several corpora, each with its share.

Devlin et al. 2018, Conneau & Lample 2019: a temperature between what there is and all alike,
    p_i = n_i^(1/T) / sum_j n_j^(1/T)        n_i tokens; T = 1: as they are; large T: each the same
Each row is drawn by itself, from the seed and its number alone. A row is of one corpus; since rows of `Streamed` and
`Windows` are all of one length, a share of rows is a share of tokens.   Read next: data/batches.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cutaway.base.errors import BadInput
from cutaway.data.documents import Chained
from cutaway.data.packing import Piece, Row, Rows, place_in, refuse_other
from cutaway.data.permutation import mixed, subseed


def tempered(sizes: Sequence[int], temperature: float) -> tuple[float, ...]:
    """The shares of corpora of so many tokens. Raises BadInput for a temperature that is not above 0."""
    if not temperature > 0:
        raise BadInput(f"must be above 0, is {temperature}", field="temperature")
    if not sizes or min(sizes) < 0 or not sum(sizes):
        raise BadInput("there is nothing to share out", field="sizes")
    largest = max(sizes)  # divided out first, so that no power overflows
    powers = [(size / largest) ** (1 / temperature) if size else 0.0 for size in sizes]
    return tuple(power / math.fsum(powers) for power in powers)


class Mixture:
    """`orders`: by name, each endless (without `epochs`), all with rows of one length. `weights`: by name, in any unit;
    without them the tokens of each corpus count, at `temperature`.
    """

    def __init__(
        self,
        orders: Mapping[str, Rows],
        *,
        weights: Mapping[str, float] | None = None,
        temperature: float = 1.0,
        seed: int = 0,
    ):
        lengths = {order.length for order in orders.values()}
        if len(lengths) != 1:
            raise BadInput(f"the corpora must have rows of one length, not {sorted(lengths)}", field="orders")
        self.orders, self.seed, self.length = dict(orders), seed, lengths.pop()
        self.documents = Chained([order.documents for order in orders.values()])
        if weights is None:
            sizes = [int(order.documents.lengths.sum()) for order in orders.values()]
            self.weights = dict(zip(orders, tempered(sizes, temperature), strict=True))
        else:
            self.weights = _checked(weights, orders)
        self._edges = np.cumsum(list(self.weights.values()))
        self.drawn = dict.fromkeys(orders, 0)

    def take(self, count: int) -> list[Row]:
        """The next `count` rows. Raises BadInput where a corpus ends."""
        first, names, rows = sum(self.drawn.values()), list(self.orders), []
        numbers = mixed(subseed(self.seed, 0), np.arange(first, first + count)) / 2.0**64 * self._edges[-1]
        for place in np.minimum(np.searchsorted(self._edges, numbers, side="right"), len(names) - 1).tolist():
            name, offset = names[place], int(self.documents.firsts[place])
            taken = self.orders[name].take(1)
            if not taken:
                raise BadInput("has come to its end; what is mixed must be endless (epochs=None)", field=name)
            self.drawn[name] += 1
            rows.append(tuple(Piece(piece.document + offset, piece.start, piece.stop) for piece in taken[0]))
        return rows

    def shares(self) -> dict[str, float]:
        """What share of all rows so far came from each corpus."""
        total = max(1, sum(self.drawn.values()))
        return {name: count / total for name, count in self.drawn.items()}

    def state(self) -> dict[str, Any]:
        orders = {name: order.state() for name, order in self.orders.items()}
        return {**self._marks(), "drawn": dict(self.drawn), "of": orders}

    def _marks(self) -> dict[str, Any]:
        return {"order": "Mixture", "seed": self.seed, "weights": self.weights}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a `state()`. Raises BadInput for one of another mixture."""
        refuse_other(state, self._marks())
        for field in ("drawn", "of"):
            if not isinstance(state.get(field), dict) or list(state[field]) != list(self.orders):
                raise BadInput(f"must speak of {', '.join(self.orders)}", field=field)
        drawn = {name: place_in(state["drawn"], name) for name in self.orders}
        before = self.state()["of"]
        try:
            for name, order in self.orders.items():
                order.restore(state["of"][name])
        except BadInput:
            for name, order in self.orders.items():  # all or nothing
                order.restore(before[name])
            raise
        self.drawn = drawn


def _checked(weights: Mapping[str, float], orders: Mapping[str, Rows]) -> dict[str, float]:
    if set(weights) != set(orders):
        message = f"must name each corpus ({', '.join(orders)}), names {', '.join(weights)}"
        raise BadInput(message, field="weights")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise BadInput(f"must be at least 0, is {weight}", field=f"weights.{name}")
    total = math.fsum(weights.values())
    if not total:
        raise BadInput("are all 0", field="weights")
    return {name: weights[name] / total for name in orders}
