"""Attention sinks: a window that never loses sight of the first tokens, on which models put what they need not spend.

Xiao et al. 2023 (StreamingLLM, arXiv 2309.17453), sections 3.1 and 3.2. The rolling cache holds the first k tokens and
the last w; positions are places within it, so that they never go beyond k + w - 1, however long the text is:
    a query at t stands at min(t, k + w - 1), sink j at j, and of the window the token d back stands d before the query.
Keys are kept before they are turned, as the paper has it; each pass turns all that it reads, at their places.
Only differences of places matter to a rotation. So in a pass of many tokens, keys and queries stand at their own rows,
except where a query looks at sinks: there it stands at the clamped place. One product serves both:
    [q at its row; q clamped] [k_s; 0] for the window's keys,   ... [0; k_j] for the sinks.
N tokens, flat · S keys · H query head · G kv head · K head dim.   Read next: nn/pinned.py, nn/attention/grouped.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.nn.context import Context
from cutaway.nn.positions import Rope
from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the rows of a pass stand: what `Rope.tables` asks of a context."""

    positions_N: Tensor
    lengths: tuple[int, ...]
    prompts: tuple[int, ...] | None = None
    cache: object | None = None


def doubled(tokens: int, length: int, window: int, sinks: int) -> bool:
    """Whether the last `tokens` of `length` read rows of which some query stands beyond the cache's last place."""
    return min(length, sinks + window - 1 + tokens) > sinks + window


def turn(
    q_NHK: Tensor, k_SGK: Tensor, see: Visible, rope: Rope, context: Context, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Queries and keys at their places within the cache; both twice as wide where two places differ."""
    assert see.window is not None
    last = see.sinks + see.window - 1
    queries = [range(keys - new, keys) for new, keys in zip(see.queries, see.keys, strict=True)]

    def turned(x_NHK: Tensor, name: str, rows: Sequence[Sequence[int]]) -> Tensor:
        def tables() -> tuple[Tensor, Tensor]:
            places = [place for part in rows for place in part]
            positions_N = torch.tensor(places, dtype=torch.long, device=x_NHK.device)
            return rope.tables(Places(positions_N=positions_N, lengths=tuple(map(len, rows))), dtype)

        cos, sin = context.once((rope, dtype, see, name), tables)
        return context.forms.rotate(x_NHK, cos, sin, interleaved=rope.interleaved)

    k_SGK = turned(k_SGK, "keys", [range(keys) for keys in see.keys])
    near_NHK = turned(q_NHK, "queries", queries)
    if max(see.keys, default=0) <= last + 1:
        return near_NHK, k_SGK
    far_NHK = turned(q_NHK, "clamped", [[min(row, last) for row in rows] for rows in queries])
    sink_S11 = torch.cat([torch.arange(keys, device=k_SGK.device) < see.sinks for keys in see.keys])[:, None, None]
    zero = k_SGK.new_zeros(())
    halves = torch.where(sink_S11, zero, k_SGK), torch.where(sink_S11, k_SGK, zero)
    return torch.cat((near_NHK, far_NHK), -1), torch.cat(halves, -1)
