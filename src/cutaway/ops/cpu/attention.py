"""Grouped attention over a cache, as a kernel: decode, prefill and both in one batch, each row a token of any sequence.

    score_s = cap(scale q k_s) - slope |place - s|,   y = sum_s softmax(score)_s v_s
Equations and papers: ops/attend.py, nn/alibi.py. Key s of a row's slot is seen where s < end, and where a window is set
only if |place - s| < window or s < sinks; `place` is the row's own key. Who looks at sinks stands at `sinks` + `window`
- 1 at most (nn/attention/sinks.py): ALiBi counts from there, and turned queries are others (`far`). Spans of keys are
shared out among the threads; the result does not depend on how many there are.
N rows · H query head · G kv head · K head dim · V value dim.   Read next: ops/cpu/attention.cpp, ops/cpu/cache.py
"""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.attend import attention_weights
from cutaway.ops.cpu.cache import Store
from cutaway.ops.cpu.list import Activations, address, alone, floats, pointer, whole

SPAN = 256
"""Keys that are worked on at a time."""

FEW = 16
"""Up to so many rows the spans of one sequence are shared out among the threads; of more, whole rows are."""


class Attend(Structure):
    """The arguments of `attend` and `attend_join` (attention.cpp)."""

    _fields_ = (
        *((name, c_void_p) for name in ("q", "cache", "slots", "places", "ends", "slopes", "sums", "tops", "y")),
        ("tiles", Activations),
        ("q_row", c_int64),
        *((name, c_int32) for name in ("count", "heads", "window", "sinks", "spans")),
        ("scale", c_float),
        ("softcap", c_float),
        ("far", c_void_p),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Whose key each row may see: its slot, its own place there, and how many of the slot's keys it may see at all
    (None: those up to its own). Each (N,), whole numbers. `far_NHK`: the queries that look at the sinks, if others."""

    slots: Tensor
    places: Tensor
    ends: Tensor | None = None
    far_NHK: Tensor | None = None

    @property
    def until(self) -> Tensor:
        """Keys that each row may see at all."""
        return self.places + 1 if self.ends is None else self.ends


def attend_readable(
    q_NHK: Tensor,
    store: Store,
    rows: Rows,
    *,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
    softcap: float | None = None,
    slopes_H: Tensor | None = None,
) -> Tensor:
    """y (N, H, V): each row against the keys of its slot that it may see; a row that sees none gets zeros."""
    outputs = []
    fars = q_NHK if rows.far_NHK is None else rows.far_NHK
    for q_HK, far_HK, slot, place, end in zip(
        q_NHK, fars, rows.slots.tolist(), rows.places.tolist(), rows.until.tolist(), strict=True
    ):
        k_SGK, v_SGV = store.read(slot, end)
        away_S = (torch.arange(end) - place).abs()
        seen_S = torch.ones(end, dtype=torch.bool)
        if window is not None:
            seen_S = (away_S < window) | (torch.arange(end) < sinks)
            near_S = torch.arange(end) >= sinks
            away_S = away_S.where(near_S, (min(place, sinks + window - 1) - torch.arange(end)).abs())
        bias = None if slopes_H is None else -slopes_H[:, None, None] * away_S
        if rows.far_NHK is not None:
            sink_S1K = (torch.arange(end) < sinks)[:, None, None]
            k_SGK = torch.cat((k_SGK.where(~sink_S1K, 0.0), k_SGK.where(sink_S1K, 0.0)), -1)
            q_HK = torch.cat((q_HK, far_HK), -1)
        weights_HTS = attention_weights(q_HK[None], k_SGK, seen_S[None], scale=scale, softcap=softcap, bias_HTS=bias)
        v_HSV = v_SGV.transpose(0, 1).repeat_interleave(q_NHK.shape[1] // v_SGV.shape[1], dim=0)
        outputs.append((weights_HTS @ v_HSV).squeeze(1))
    return torch.stack(outputs) if outputs else q_NHK.new_zeros(0, q_NHK.shape[1], store.value_width)


def attend_kernel(
    q_NHK: Tensor,
    store: Store,
    rows: Rows,
    *,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
    softcap: float | None = None,
    slopes_H: Tensor | None = None,
) -> Tensor:
    """The same by the kernel, in float32. Raises NoKernels where there are none."""
    if q_NHK.shape[1] % store.keys.shape[1] or q_NHK.shape[2] != store.key_width:
        said = f"{tuple(q_NHK.shape[1:])} against keys of {(store.keys.shape[1], store.key_width)}"
        raise BadInput(said, field="q_NHK")
    count, heads, width = len(q_NHK), q_NHK.shape[1], store.value_width
    y_NHV = torch.empty(count, heads, width)
    if not count:
        return y_NHV
    q_NHK, slots, places, ends = floats(q_NHK), *map(whole, (rows.slots, rows.places, rows.until))
    slopes_H = None if slopes_H is None else floats(slopes_H)
    parts = Parts(spans_for(count, int(ends.max())), count, heads, width)
    far_NHK = None if rows.far_NHK is None else floats(rows.far_NHK)
    cache = store.structure()
    told = Attend(
        q_NHK.data_ptr(),
        address(cache),
        *map(pointer, (slots, places, ends, slopes_H, parts.sums, parts.tops, y_NHV)),
        Activations(),
        *(
            heads * q_NHK.shape[2],
            count,
            heads,
            window or 0,
            sinks,
            parts.spans,
            scale,
            softcap or 0.0,
            pointer(far_NHK),
        ),
    )
    alone("attend", told, "attend_join")
    return y_NHV


def spans_for(count: int, longest: int) -> int:
    """Spans that are worked on apart, for so many rows of which the longest sees so many keys."""
    return max(1, -(-longest // SPAN)) if count <= FEW else 1


class Parts:
    """Room for the parts of results: weighted sums, and each part's highest score and sum of weights."""

    def __init__(self, spans: int, count: int, heads: int, width: int):
        self.spans = spans
        self.sums = torch.empty(spans, count, heads, width)
        self.tops = torch.empty(spans, count, heads, 2)
