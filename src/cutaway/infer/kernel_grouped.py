"""Grouped attention within a list: projections, norm and turn of heads, their cache, scores and means, the last map.

Under sinks (nn/attention/sinks.py) queries turn twice, by their own places and by those from which they look at the
first tokens; keys are kept as any mixer's are. So a rolling cache and pages are read where they lie.
N rows of a pass · R numbers of a row's query, key and value heads · Q of its query heads.
Read next: nn/attention/grouped.py, ops/cpu/rotate.py, ops/cpu/attention.py, infer/kernel_plan.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.infer.kernel_making import Making, settings
from cutaway.infer.kernel_weights import multiplies
from cutaway.nn.attention.grouped import GroupedQueryAttention
from cutaway.nn.block import Norms
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.ops.cpu.attention import Attend, Parts
from cutaway.ops.cpu.cache import LANES, WIDEST, Cache
from cutaway.ops.cpu.gate import ACTIVATIONS, Gate
from cutaway.ops.cpu.list import address, pointer
from cutaway.ops.cpu.rotate import Rotate


def lists(mixer: Any) -> bool:
    """Whether kernels do all that grouped attention does."""
    if type(mixer) is not GroupedQueryAttention:
        return False
    spec = mixer.spec
    turns = spec.rope is None or not isinstance(spec.rope.scaling, DynamicNtk)
    fits = spec.head_dim % LANES == 0 and spec.head_dim <= WIDEST
    gates = () if mixer.gate is None else (mixer.gate,)
    return turns and fits and multiplies((mixer.query, mixer.key, mixer.value, mixer.out, *gates))


def add(
    plan: Making,
    mixer: GroupedQueryAttention,
    norms: Norms,
    cache: Cache,
    told: Rotate,
    seen: tuple[np.ndarray, np.ndarray],
    parts: Parts,
) -> None:
    """Adds the mixer to the plan's list, with its norms and the sum with the residual. `told`: the tables and places
    of the pass, as `rotate` takes them; `seen`: each row's key, and where its keys end."""
    spec, width = mixer.spec, mixer.spec.heads * mixer.spec.head_dim
    maps, gates = (mixer.query, mixer.key, mixer.value), () if mixer.gate is None else (mixer.gate,)
    heads_NR = plan.floats("heads", width + 2 * spec.kv_heads * spec.head_dim)
    gate_NQ = plan.floats("gate of heads", width)
    read = plan.laid(plan.x_ND.shape[1], (*maps, *gates))
    plan.lay(norms.before, read)
    plan.products(mixer.fan, maps, read, heads_NR)
    for gate in gates:
        plan.product(gate, read, gate_NQ, add=False)
    attend = Attend(heads_NR.data_ptr(), address(cache), told.slots)
    attend.q_row, attend.count, attend.heads = heads_NR.shape[1], plan.rows, spec.heads
    attend.scale, attend.softcap = mixer.scale, spec.softcap or 0.0
    attend.window, attend.sinks = spec.window or 0, spec.sinks
    _turn(plan, mixer, cache, told, heads_NR, attend)
    laid = plan.laid(width, (mixer.out,))
    if not gates:
        attend.tiles = laid.structure
        _attend(plan, mixer, attend, seen, parts)
    else:
        y_NQ = plan.floats("heads before the gate", width)
        attend.y = y_NQ.data_ptr()
        _attend(plan, mixer, attend, seen, parts)
        gated = Gate(*map(pointer, (gate_NQ, y_NQ, None)), laid.structure, *gate_NQ.stride()[:1] * 2)
        gated.count, gated.width, gated.activation = plan.rows, width, ACTIVATIONS.index("sigmoid")
        plan.operations().append("gate", gated)
    plan.finish(mixer.out, laid, norms)


def _turn(plan: Making, mixer: Any, cache: Cache, told: Rotate, heads_NR: Tensor, attend: Attend) -> None:
    """Norm and turn of heads; keys and values into the cache. Who looks at sinks from elsewhere does so in `attend`."""
    spec = mixer.spec
    told.x, told.row, told.cache = heads_NR.data_ptr(), heads_NR.shape[1], address(cache)
    told.heads, told.kv_heads, told.width, told.value_width = spec.heads, spec.kv_heads, spec.head_dim, spec.head_dim
    norms = mixer.query_norm, mixer.key_norm
    if None not in norms:
        told.query_weight, told.key_weight = (plan.held(norm, "weight").data_ptr() for norm in norms)
        told.eps, told.offset, told.centred = settings(norms[0])
        if getattr(norms[0], "bias", None) is not None:
            told.query_bias, told.key_bias = (plan.held(norm, "bias").data_ptr() for norm in norms)
    if spec.sinks and spec.rope is not None:
        far_NR = plan.floats("heads far from the sinks", heads_NR.shape[1])
        told.far = attend.far = far_NR.data_ptr()
        told.most = spec.sinks + spec.window - 1
    plan.operations().append("rotate", told, cache)


def _attend(plan: Making, mixer: Any, attend: Attend, seen: tuple[np.ndarray, np.ndarray], parts: Parts) -> None:
    spec = mixer.spec
    slopes_H = None if spec.alibi is None else torch.tensor(spec.alibi.slopes(spec.heads))
    attend.places, attend.ends = (one.ctypes.data for one in seen)
    attend.slopes = pointer(slopes_H)
    attend.sums, attend.tops, attend.spans = parts.sums.data_ptr(), parts.tops.data_ptr(), parts.spans
    for name in ("attend", "attend_join"):
        plan.operations().append(name, attend, slopes_H, parts, seen)
