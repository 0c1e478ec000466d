"""Attention sinks: a window that never loses sight of the first tokens, on which models put what they need not spend.

Xiao et al. 2023 (StreamingLLM, arXiv 2309.17453), sections 3.1 and 3.2. The rolling cache holds the first k tokens and
the last w; positions are places within it, so that they never go beyond k + w - 1, however long the text is:
    a query at t stands at min(t, k + w - 1), sink j at j, and of the window the token d back stands d before the query.
Only differences of places matter to a rotation. So queries and keys turn by their places in the text, as anywhere; a
query beyond k + w - 1 is turned once more, by the clamped place, to look at the sinks. One product serves both:
    [q at its place; q clamped] [k_s; 0] for the window's keys,   ... [0; k_j] for the sinks.
Departure: the paper keeps keys as they were before the turn, and each pass turns all that it reads, at places within
the cache. Scores are the same. Keys that are kept turned cost nothing more to read, and are the same whatever a pass
brings; but angles of places in the text are float32's, which blur beyond a million tokens.
N tokens, flat · S keys · H query head · G kv head · K head dim.   Read next: nn/rows.py, nn/attention/grouped.py
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.nn.context import Context
from cutaway.nn.positions import Rope
from cutaway.ops.visible import Visible


def beyond(length: int, window: int, sinks: int) -> bool:
    """Whether the last of `length` tokens stands beyond the cache's last place."""
    return length > sinks + window


def clamped(q_NHK: Tensor, rope: Rope, context: Context, window: int, sinks: int, dtype: torch.dtype) -> Tensor | None:
    """Queries as they come, turned by the places from which they look at sinks; None where these are their own."""
    held = (0,) * len(context.lengths) if context.cache is None else context.cache.lengths
    if not any(beyond(old + new, window, sinks) for old, new in zip(held, context.lengths, strict=True)):
        return None
    last = sinks + window - 1

    def tables() -> tuple[Tensor, Tensor]:
        return rope.tables(replace(context, positions_N=context.positions_N.clamp(max=last)), dtype)

    cos, sin = context.once((rope, dtype, last), tables)
    return context.forms.rotate(q_NHK, cos, sin, interleaved=rope.interleaved)


def halves(near_NHK: Tensor, far_NHK: Tensor, k_SGK: Tensor, see: Visible) -> tuple[Tensor, Tensor]:
    """Queries and keys twice as wide: the first half of a query meets the window, the second one the sinks."""
    width, parts = k_SGK.shape[-1], []
    for k_sGK in k_SGK.split(see.keys):
        parts += [F.pad(k_sGK[: see.sinks], (width, 0)), F.pad(k_sGK[see.sinks :], (0, width))]
    return torch.cat((near_NHK, far_NHK), -1), torch.cat(parts)
