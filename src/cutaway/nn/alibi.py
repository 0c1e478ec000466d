"""ALiBi: no positions at all; each head's scores lose a fixed amount for every token that lies between.

Press et al. 2021 (arXiv 2108.12409), section 3.   score(t, s) = q_t k_s - m_h |t - s|,   m_h = 2^(-8 h / H)
Where H is no power of two (the paper's code): those of the next smaller power, then every other one of the next larger.
Departure: under sinks (nn/attention/sinks.py) distances are those within the cache, as StreamingLLM has them.
T query position · S key position · H head.   Read next: ops/attend.py (`Bias`), nn/relative_bias.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.nn.context import Context
from cutaway.ops.attend import Bias, Tilewise
from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Alibi:
    """Stands where a `Rope` may stand. `steepest`: the exponent of the flattest head's slope, 2^-8 (MPT can have
    another)."""

    steepest: float = 8.0

    def __post_init__(self) -> None:
        if not 0.0 < self.steepest < math.inf:
            raise BadInput(f"must be above 0, is {self.steepest}", field="Alibi.steepest")

    def slopes(self, heads: int) -> tuple[float, ...]:
        """What each head's scores lose per token."""
        lower = 2 ** (heads.bit_length() - 1)
        row = [2.0 ** (-self.steepest * head / lower) for head in range(1, lower + 1)]
        between = [2.0 ** (-self.steepest * head / (2 * lower)) for head in range(1, 2 * lower + 1, 2)]
        return (*row, *between[: heads - lower])

    def bias(self, see: Visible, heads: int, context: Context) -> Bias:
        """What is added to the scores of a pass, float32. Sequences of equal sizes and all layers share one tensor;
        tiles are made as they are asked for."""
        device = context.positions_N.device
        slopes_H11 = torch.tensor(self.slopes(heads), device=device)[:, None, None]

        def tile(index: int, queries: range, keys: range) -> Tensor:
            return slopes_H11 * -distances(see, index, queries, keys, device).abs()

        def whole(index: int) -> Tensor:
            queries, keys = see.queries[index], see.keys[index]
            key = (self, heads, queries, keys, see.window if see.sinks else None, see.sinks)
            return context.once(key, lambda: tile(index, range(queries), range(keys)))

        return Tilewise(whole=whole, tile=tile)


def distances(see: Visible, index: int, queries: range, keys: range, device: torch.device | None = None) -> Tensor:
    """How many tokens back each of some keys of a sequence lies from each of some queries, (T, S); below 0 for those
    behind the query. From beyond a window with sinks, these lie as far back as the rolling cache is long."""
    first = see.keys[index] - see.queries[index]
    at_T1 = torch.arange(first + queries.start, first + queries.stop, device=device)[:, None]
    key_S = torch.arange(keys.start, keys.stop, device=device)
    if not see.sinks or see.window is None:
        return at_T1 - key_S
    return torch.where(key_S < see.sinks, at_T1.clamp(max=see.sinks + see.window - 1), at_T1) - key_S
