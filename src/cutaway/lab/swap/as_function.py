"""A module seen as the function inside it: with weights that select, its probes are the function's.

Let x hold queries, keys and values side by side and every projection pick out its own: then attention's module is
`attend`. So too a feed-forward is its activation or gate, and a norm's module its norm.
N tokens, flat · S keys · D model dim · H query head · G kv head · K head dim.   Read next: lab/swap/modules.py
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.lab.swap.part import Candidate, Probe
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.ops.forms import READABLE
from cutaway.ops.visible import Visible

Seen = Callable[[Candidate], Candidate]  # a class of modules -> the function


def seen_as(function: Seen, probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
    """Probes of a function, for a module that has one inside."""
    return tuple(Probe(property=one.property, find=partial(_through, one=one, function=function)) for one in probes)


def _through(mine: Candidate, *, one: Probe, function: Seen) -> str | None:
    return one.find(function(mine))


def _run(mine: Candidate, dim: int, spec: Any, weights: dict[str, Tensor], x_ND: Tensor, lengths: Any) -> Tensor:
    module: nn.Module = mine(dim, spec)
    module.load_state_dict(weights)
    got = module.eval()(x_ND, Context.of(lengths, forms=READABLE))
    return got[0] if isinstance(got, tuple) else got


def as_attend(mine: Candidate) -> Candidate:
    """For what sees left to right, with values as wide as keys. Queries that a cache would have seen before are 0."""

    def attend(
        q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, see: Visible, *, scale: float, softcap: float | None = None
    ) -> Tensor:
        if not see.causal or see.prefix is not None or v_SGK.shape[-1] != k_SGK.shape[-1]:
            raise NotImplementedError("a module has no such case")
        (_, heads, width), groups = q_NHK.shape, k_SGK.shape[1]
        told: dict[str, Any] = {"scale": scale, "softcap": softcap, "window": see.window, "sinks": see.sinks}
        spec = GroupedQuery(heads=heads, kv_heads=groups, head_dim=width, **told)
        parts = [heads * width, groups * width, groups * width]
        dim = sum(parts)
        picks = torch.eye(dim).split(parts)
        weights = {f"{name}.weight": one for name, one in zip(("query", "key", "value"), picks, strict=True)}
        weights["out.weight"] = torch.eye(dim)[:, : parts[0]]
        first = [keys - queries for queries, keys in zip(see.queries, see.keys, strict=True)]
        rows = [
            torch.cat((q_NHK.new_zeros(before, parts[0]), q.flatten(1)))
            for before, q in zip(first, q_NHK.split(see.queries), strict=True)
        ]
        x_ND = torch.cat((torch.cat(rows), k_SGK.flatten(1), v_SGK.flatten(1)), -1)
        y_SD = _run(mine, dim, spec, weights, x_ND, see.keys)[:, : parts[0]]
        last = [y[before:] for before, y in zip(first, y_SD.split(see.keys), strict=True)]
        return torch.cat(last).reshape(-1, heads, width)

    return attend


def as_gate(mine: Candidate) -> Candidate:
    def gate(gate_NF: Tensor, up_NF: Tensor, activation: str) -> Tensor:
        hidden = gate_NF.shape[-1]
        whole = torch.eye(2 * hidden)
        weights = {"gate.weight": whole[:hidden], "up.weight": whole[hidden:], "down.weight": whole[:, :hidden]}
        x_ND = torch.cat((gate_NF, up_NF), -1).reshape(-1, 2 * hidden)
        spec = Gated(hidden=hidden, activation=activation)
        got = _run(mine, 2 * hidden, spec, weights, x_ND, (x_ND.shape[0],))
        return got[:, :hidden].reshape(gate_NF.shape)

    return gate


def as_activate(mine: Candidate) -> Candidate:
    def activate(x_NF: Tensor, name: str) -> Tensor:
        hidden = x_NF.shape[-1]
        weights = {"up.weight": torch.eye(hidden), "down.weight": torch.eye(hidden)}
        rows_ND = x_NF.reshape(-1, hidden)
        spec = Plain(hidden=hidden, activation=name, bias=False)
        return _run(mine, hidden, spec, weights, rows_ND, (rows_ND.shape[0],)).reshape(x_NF.shape)

    return activate


def as_rms_norm(mine: Candidate) -> Candidate:
    def rms_norm(x: Tensor, weight: Tensor, *, eps: float, offset: float = 0.0) -> Tensor:
        rows_ND = x.reshape(-1, x.shape[-1])
        spec = RMSNorm(eps=eps, offset=offset)
        return _run(mine, x.shape[-1], spec, {"weight": weight}, rows_ND, (rows_ND.shape[0],)).reshape(x.shape)

    return rms_norm


def as_layer_norm(mine: Candidate) -> Candidate:
    def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, *, eps: float) -> Tensor:
        rows_ND = x.reshape(-1, x.shape[-1])
        spec = LayerNorm(eps=eps, bias=bias is not None)
        weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
        return _run(mine, x.shape[-1], spec, weights, rows_ND, (rows_ND.shape[0],)).reshape(x.shape)

    return layer_norm
