"""What the host tells the attention kernels of a ragged batch: where sequences lie, and which tiles have work.

A kernel runs once per tile and head; each run looks up its own row here. `Visible` alone says what may be seen: which
keys a tile of queries reaches is written down here, so that a kernel never visits a tile in which nothing is seen.
N tokens, flat · B sequence · X tile.   Read next: ops/visible.py, ops/triton/flash_forward.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cutaway.ops.tiled import Tiles
from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Integer tables, one row for each program to look up.

    `sequences_B6`: first row in q, queries, first row in k and v, keys, keys of the prefix, first number in the bias.
    `queries_X5`: sequence, first query of the tile, then the keys to visit: [0, a) (the sinks) and [b, c).
    `keys_X4`: sequence, first key of the tile, and the queries to visit: [a, b).
    """

    sequences_B6: Tensor
    queries_X5: Tensor
    keys_X4: Tensor


@lru_cache(maxsize=64)
def plan(see: Visible, heads: int, tiles: Tiles, device: torch.device) -> Plan:
    """The tables of a batch, on the device of its tensors. All layers of a pass ask for the same ones."""
    sequences, by_queries, by_keys = [], [], []
    first_query = first_key = first_bias = 0
    for index, (queries, keys) in enumerate(zip(see.queries, see.keys, strict=True)):
        sequences.append((first_query, queries, first_key, keys, see.held(index), first_bias))
        for start in range(0, queries, tiles.queries):
            sinks, near = _parts(see.reach(index, range(start, min(start + tiles.queries, queries))))
            by_queries.append((index, start, sinks.stop, near.start, near.stop))
        for start in range(0, keys, tiles.keys):
            reached = see.reached(index, range(start, min(start + tiles.keys, keys)))
            by_keys.append((index, start, reached.start, reached.stop))
        first_query, first_key = first_query + queries, first_key + keys
        first_bias += heads * queries * keys
    # Numbers in a bias can pass 2^31. What is made while inferring must still be of use to a training step.
    with torch.inference_mode(False):
        tables = (
            torch.tensor(rows, dtype=torch.int64, device=device).reshape(-1, width)
            for rows, width in ((sequences, 6), (by_queries, 5), (by_keys, 4))
        )
        return Plan(sequences_B6=next(tables), queries_X5=next(tables), keys_X4=next(tables))


def _parts(reach: tuple[range, ...]) -> tuple[range, range]:
    """The sinks' keys, none or [0, a), and the others'."""
    return (reach[0], reach[1]) if len(reach) == 2 else (range(0), reach[0])
