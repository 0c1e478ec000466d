"""Multi-head latent attention within a list, absorbed: one key for all heads, made of what is kept of each token.

    wide_h = W_k,h^T q_h,   score = scale ([wide_h; rotated(p_h)] . [a_s; r_s]),   y_h = W_v,h sum_s w_s a_s
(nn/attention/latent.py). Queries are made as wide as what is kept by a product for each head, attention reads latents a
and rotated keys r where they lie, and another product for each head turns means of latents into values. So a step costs
what the kept numbers cost to read. So do prompts, which come a few rows at a time: to expand all keys and values anew
for each few would multiply more.
W_k is needed by its columns: packed, it is unpacked once, to fp32.
N rows of a pass · D model dim · H head · K head dim · V value dim · W rotary width · R rank.
Read next: nn/attention/latent.py, ops/cpu/attention.py, infer/kernel_plan.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import Structure
from typing import Any

import numpy as np
from torch import Tensor

from cutaway.infer import kernel_weights
from cutaway.infer.kernel_making import Making
from cutaway.infer.kernel_weights import multiplies
from cutaway.nn.attention.latent import LatentAttention
from cutaway.nn.block import Norms
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.cpu import plain
from cutaway.ops.cpu.attention import Attend, Parts
from cutaway.ops.cpu.cache import LANES, WIDEST, Cache, Store
from cutaway.ops.cpu.gate import NOTHING, Gate
from cutaway.ops.cpu.list import GROUP, Laid, Output, Product, address, pointer
from cutaway.ops.cpu.norm import Norm
from cutaway.ops.cpu.pack import Strips
from cutaway.ops.cpu.rotate import Rotate


class LatentCache(Structure):
    """A latent cache as it is written, the rotated key as a key and the latent as a value; and as it is read."""

    _fields_ = (("written", Cache), ("read", Cache))

    @staticmethod
    def of(latent_XR: Tensor, key_XW: Tensor, make: Callable[..., Store]) -> LatentCache:
        """Rows of both streams; `make` makes a store of keys, values, and perhaps more."""
        latent, key = latent_XR.unsqueeze(-2), key_XW.unsqueeze(-2)
        return LatentCache(make(key, latent).structure(), make(latent, latent, more=key).structure())


def lists(mixer: Any) -> bool:
    """Whether kernels do all that latent attention does."""
    if type(mixer) is not LatentAttention:
        return False
    spec = mixer.spec
    wholes = spec.head_dim % GROUP == 0 and spec.rank % GROUP == 0
    lanes = spec.value_width % LANES == 0 and spec.rope.width % LANES == 0
    fits = spec.rank <= WIDEST and spec.absorb is not False and not isinstance(spec.rope.scaling, DynamicNtk)
    firsts = (mixer.query,) if spec.query_rank is None else (mixer.query_down, mixer.query_up)
    return wholes and lanes and fits and multiplies((*firsts, mixer.down, mixer.up, mixer.out))


def add(
    plan: Making,
    mixer: LatentAttention,
    norms: Norms,
    cache: LatentCache,
    told: Rotate,
    seen: tuple[np.ndarray, np.ndarray],
    parts: Parts,
) -> None:
    """Adds the mixer to the plan's list, with its norms and the sum with the residual. `told`: the tables and places
    of the pass, as `rotate` takes them; `seen`: each row's key, and where its keys end."""
    spec = mixer.spec
    wide_NX = plan.floats("latent queries", spec.heads * (spec.rank + spec.rope.width))
    plain_NX = plan.floats("plain queries", spec.heads * spec.head_dim)
    kept_NX = plan.floats("latents", spec.rope.width + spec.rank)
    _project(plan, mixer, norms, plain_NX, wide_NX, kept_NX)
    _turn(plan, mixer, cache, told, wide_NX, kept_NX)
    _absorb(plan, mixer, plain_NX, wide_NX)
    y_NX = plan.floats("latent means", spec.heads * spec.rank)
    attend = Attend(wide_NX.data_ptr(), address(cache) + LatentCache.read.offset, told.slots)
    attend.places, attend.ends = (one.ctypes.data for one in seen)
    attend.sums, attend.tops, attend.y = map(pointer, (parts.sums, parts.tops, y_NX))
    attend.q_row, attend.count, attend.heads = wide_NX.shape[1], plan.rows, spec.heads
    attend.spans, attend.scale = parts.spans, spec.score_scale
    for name in ("attend", "attend_join"):
        plan.operations().append(name, attend, seen, parts, cache)
    _finish(plan, mixer, norms, y_NX)


def _project(plan: Making, mixer: Any, norms: Norms, plain_NX: Tensor, wide_NX: Tensor, kept_NX: Tensor) -> None:
    """Each head's query, in two parts, and the latent behind the key that turns."""
    spec, dim = mixer.spec, plan.x_ND.shape[1]
    firsts = (mixer.query if spec.query_rank is None else mixer.query_down, mixer.down)
    laid = plan.laid(dim, firsts)
    plan.lay(norms.before, laid)
    products: list[tuple[Product, Strips]] = []
    down_NX = plan.floats("query latents", spec.query_rank or 1)
    if spec.query_rank is None:
        products += _queries(plan, mixer, mixer.query, laid, plain_NX, wide_NX)
    else:
        plan.product(mixer.query_down, laid, down_NX, add=False)
    for start, rows, column in ((0, spec.rank, spec.rope.width), (spec.rank, spec.rope.width, 0)):
        products.append(_run(plan, mixer.down, start, rows, laid, kept_NX[:, column:]))
    _together(plan, products)
    if spec.query_rank is not None:
        laid = plan.laid(spec.query_rank, (mixer.query_up,))
        told = Norm(x=down_NX.data_ptr(), tiles=laid.structure, count=plan.rows)
        plan.norm(mixer.query_norm, told, spec.query_rank)
        _together(plan, _queries(plan, mixer, mixer.query_up, laid, plain_NX, wide_NX))


def _queries(
    plan: Making, mixer: Any, one: Any, laid: Laid, plain_NX: Tensor, wide_NX: Tensor
) -> list[tuple[Product, Strips]]:
    """Products with each head's rows: the plain part by itself, the part that turns where the wide query ends."""
    spec, products = mixer.spec, []
    for head in range(spec.heads):
        start = head * (spec.head_dim + spec.rope.width)
        wide = wide_NX[:, head * (spec.rank + spec.rope.width) + spec.rank :]
        products.append(_run(plan, one, start, spec.head_dim, laid, plain_NX[:, head * spec.head_dim :]))
        products.append(_run(plan, one, start + spec.head_dim, spec.rope.width, laid, wide))
    return products


def _run(plan: Making, one: Any, start: int, rows: int, laid: Laid, out_NX: Tensor) -> tuple[Product, Strips]:
    """The product with some rows of a map, and those rows."""
    strips = kernel_weights.strips(one).run(start, rows)
    assert strips is not None
    plan.noted(*kernel_weights.holder(one))
    bias = None if one.bias is None else plan.held(one, "bias")[start:].data_ptr()
    return Product(strips.struct, laid.structure, Output(out_NX.data_ptr(), out_NX.stride(0), bias, False)), strips


def _together(plan: Making, products: Sequence[tuple[Product, Strips]]) -> None:
    """Adds products, none of which needs what another makes. The list keeps their matrices: where a map is joined with
    others later (ops/packed.py), the map itself lets go of those that it had."""
    told, matrices = zip(*products, strict=True)
    plan.operations().together("product", told, matrices)


def _turn(plan: Making, mixer: Any, cache: LatentCache, told: Rotate, wide_NX: Tensor, kept_NX: Tensor) -> None:
    """The latent's norm, the turn of queries and keys, and both into the cache."""
    spec = mixer.spec
    width = spec.rope.width
    latent = kept_NX[:, width:].data_ptr()
    normed = Norm(x=latent, y=latent, count=plan.rows, x_outer=kept_NX.shape[1], y_outer=kept_NX.shape[1])
    plan.norm(mixer.norm, normed, spec.rank)
    queries, keys = (type(told).from_buffer_copy(told) for _ in range(2))
    queries.x, queries.row = wide_NX[:, spec.rank :].data_ptr(), wide_NX.shape[1]
    queries.heads, queries.width = spec.heads, spec.rank + width
    keys.x, keys.row, keys.kv_heads, keys.width = kept_NX.data_ptr(), kept_NX.shape[1], 1, width
    keys.value_width, keys.cache = spec.rank, address(cache) + LatentCache.written.offset
    for one in (queries, keys):
        plan.operations().append("rotate", one, told, cache)


def _absorb(plan: Making, mixer: Any, plain_NX: Tensor, wide_NX: Tensor) -> None:
    """W_k,h^T q_h: each head's plain query as wide as the latent."""
    spec = mixer.spec
    holder, name = kernel_weights.holder(mixer.up)
    plan.noted(holder, name)
    heads = plain.made("keys by columns", lambda _: _columns(mixer), getattr(holder, name))
    laid = _heads(plan, plain_NX, spec.head_dim, spec.heads, mixer.norm)  # beside plain matrices: floats
    products = []
    for head, strips in enumerate(heads):
        out = wide_NX[:, head * (spec.rank + spec.rope.width) :]
        told = Output(out.data_ptr(), out.stride(0), None, False)
        products.append((Product(strips.struct, laid[head].structure, told), strips))
    _together(plan, products)


def _columns(mixer: Any) -> list[Strips]:
    """W_k of each head with its columns as rows, (R, K)."""
    spec, up = mixer.spec, mixer.up
    weight = up.weight.detach() if kernel_weights.holder(up)[1] == "weight" else None
    if weight is None:
        weight = dequantise(up.packed.blocks, up.packed.format)
    by_heads = weight.unflatten(0, (spec.heads, -1))[:, : spec.head_dim]
    return [Strips.plain(one.T.contiguous()) for one in by_heads]


def _heads(plan: Making, x_NX: Tensor, width: int, heads: int, one: Any) -> list[Laid]:
    """Each head's run of columns as products with `one` read it."""
    laid = [plan.laid(width, (one,), name=f"head {head}") for head in range(heads)]
    told = []
    for head, room in enumerate(laid):
        start = x_NX[:, head * width :].data_ptr()
        told.append(Gate(gate=start, tiles=room.structure, gate_row=x_NX.shape[1], count=plan.rows, width=width))
        told[-1].activation = NOTHING
    plan.operations().together("gate", told, laid)
    return laid


def _finish(plan: Making, mixer: Any, norms: Norms, y_NX: Tensor) -> None:
    """W_v,h of each head's mean, then the map that all heads share."""
    spec = mixer.spec
    laid = _heads(plan, y_NX, spec.rank, spec.heads, mixer.up)
    values_NX = plan.floats("latent values", spec.heads * spec.value_width)
    products = []
    for head in range(spec.heads):
        start = head * (spec.head_dim + spec.value_width) + spec.head_dim
        out = values_NX[:, head * spec.value_width :]
        products.append(_run(plan, mixer.up, start, spec.value_width, laid[head], out))
    _together(plan, products)
    whole = plan.laid(values_NX.shape[1], (mixer.out,))
    told = Gate(gate=values_NX.data_ptr(), tiles=whole.structure, gate_row=values_NX.shape[1], count=plan.rows)
    told.width, told.activation = values_NX.shape[1], NOTHING
    plan.operations().append("gate", told)
    plan.finish(mixer.out, whole, norms)
