"""A mixture of experts within a list: the router's choice, each expert's products with its own tokens, their sum.

Which experts work, and on how many rows, is decided while the list runs (ops/cpu/experts.cpp); all experts' products
stand in it, and those of experts that nobody chose have no rows. A shared expert is one more feed, of all rows.
N rows of a pass · J place among a row's chosen experts · D model dim · F hidden dim of an expert · E expert.
Read next: ops/cpu/experts.py, nn/experts/mixture.py, infer/kernel_plan.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.infer import kernel_weights
from cutaway.infer.kernel_making import Making
from cutaway.infer.kernel_weights import multiplies
from cutaway.nn.block import Norms
from cutaway.nn.experts.mixture import ExpertsFeed
from cutaway.nn.experts.routers import Router, SigmoidTopK, SoftmaxTopK, TopKSoftmax
from cutaway.nn.feedforward import GatedFeed, PlainFeed
from cutaway.ops.cpu import plain
from cutaway.ops.cpu.experts import MOST, RULES, Choice, Chosen, Portion, portion
from cutaway.ops.cpu.gate import ACTIVATIONS, NOTHING, Gate
from cutaway.ops.cpu.list import GROUP, Laid, Output, Product, pointer
from cutaway.ops.cpu.norm import Norm
from cutaway.ops.cpu.pack import PLAIN

RULED: dict[type, str] = {SoftmaxTopK: RULES[0], TopKSoftmax: RULES[1], SigmoidTopK: RULES[2]}


def lists(feed: ExpertsFeed) -> bool:
    """Whether kernels do all that a mixture does."""
    spec, router = feed.spec, feed.router
    known = type(spec.router) in RULED and spec.count <= MOST and router.weight.dtype in PLAIN
    parts = [*feed.experts, *([] if feed.shared is None else [feed.shared])]
    gate: Any = feed.shared_gate
    return (
        known
        and router.weight.shape[1] % GROUP == 0
        and multiplies(() if gate is None else (gate,))
        and all(map(_lists, parts))
    )


def _lists(feed: Any) -> bool:
    return type(feed) in (GatedFeed, PlainFeed) and multiplies(_maps(feed)) and feed.spec.activation in ACTIVATIONS


def _maps(feed: Any) -> tuple[Any, ...]:
    first = (feed.gate, feed.up) if isinstance(feed, GatedFeed) else (feed.up,)
    return (*first, feed.down)


def add(plan: Making, feed: ExpertsFeed, norms: Norms) -> None:
    """Adds the mixture to the plan's list, with its norms and the sum with the residual."""
    dim, experts = plan.x_ND.shape[1], list(feed.experts)
    x_ND = _normed(plan, norms)
    chosen = _route(plan, feed, x_ND)
    firsts = [_maps(one)[:-1] for one in experts]
    made = _products(plan, chosen, firsts, x_ND, "expert", tokens=True)
    hidden_MF = _gated(plan, experts[0], made, "expert gated")
    downs = [(_maps(one)[-1],) for one in experts]
    made_MD = _products(plan, chosen, downs, hidden_MF, "expert made", tokens=False)
    y_ND = plan.x_ND if norms.after is None else plan.floats("part", dim)
    plan.operations().append("combine", chosen.combine(made_MD, y_ND, add=norms.after is None))
    if feed.shared is not None:
        _shared(plan, feed, x_ND, y_ND)
    plan.close(y_ND, norms)


def _normed(plan: Making, norms: Norms) -> Tensor:
    """The residual (N, D), normed where the block norms before its parts: a copy, as it is read more than once."""
    dim = plan.x_ND.shape[1]
    x_ND = plan.floats("experts' input", dim)
    if norms.before is not None:
        plan.norm(norms.before, Norm(x=plan.x_ND.data_ptr(), y=x_ND.data_ptr(), count=plan.rows))
    else:
        told = Gate(gate=plan.x_ND.data_ptr(), y=x_ND.data_ptr(), gate_row=dim, y_row=dim, count=plan.rows, width=dim)
        told.activation = NOTHING
        plan.operations().append("gate", told)
    return x_ND


def _laid(plan: Making, x_NC: Tensor, maps: Sequence[Any]) -> Laid:
    """Rows as products with these maps read them."""
    laid = plan.laid(x_NC.shape[1], maps, len(x_NC))
    told = Gate(gate=x_NC.data_ptr(), tiles=laid.structure, gate_row=x_NC.shape[1], count=len(x_NC))
    told.width, told.activation = x_NC.shape[1], NOTHING
    plan.operations().append("gate", told)
    return laid


def _route(plan: Making, feed: ExpertsFeed, x_ND: Tensor) -> Chosen:
    """Scores in float32, whatever the products are made in; then the choice."""
    router, rule = feed.router, feed.spec.router
    strips = plain.strips(router.weight)
    plan.noted(router, "weight")
    logits_NE, laid = plan.floats("router", feed.spec.count), _laid(plan, x_ND, (router,))
    out = Output(logits_NE.data_ptr(), feed.spec.count, None, False)
    plan.operations().append("product", Product(strips.struct, laid.structure, out), strips)
    bias_E = None if router.bias is None else plan.held(router, "bias")
    chosen = Chosen(plan.rows, rule.top_k, feed.spec.count)
    plan.operations().append("route", chosen.route(logits_NE, choice(rule), bias_E), chosen)
    return chosen


def choice(rule: Router) -> Choice:
    """A router's rule as the kernel takes it."""
    groups = (0, 0, False)
    if rule.groups is not None:
        groups = (rule.groups.count, rule.groups.top_k, rule.groups.worth == "best two")
    renormalise, scale = getattr(rule, "renormalise", False), getattr(rule, "scale", 1.0)
    return Choice(rule=RULED[type(rule)], top_k=rule.top_k, renormalise=renormalise, scale=scale, groups=groups)


def _products(
    plan: Making, chosen: Chosen, maps: Sequence[tuple[Any, ...]], x: Tensor, name: str, *, tokens: bool
) -> Tensor:
    """Of each expert's maps, side by side, the products with its rows: (N J, R). The first ones, whose rows are those
    of `tokens`, also decide how rows lie by experts."""
    rows = [kernel_weights.strips(one).rows for one in maps[0]]
    made, columns = plan.floats(name, sum(rows), chosen.tokens * chosen.top_k), x.shape[1]
    laid = plan.laid(columns, [one for some in maps for one in some], chosen.filled)
    products: list[Product] = []
    portions: list[Portion] = []
    kept: list[Any] = []
    for expert, some in enumerate(maps):
        start = 0
        for one in some:
            strips = kernel_weights.strips(one)
            plan.noted(*kernel_weights.holder(one))
            bias = None if one.bias is None else plan.held(one, "bias")
            products.append(Product(strips.struct, laid.structure, Output(None, made.shape[1], pointer(bias), False)))
            portions.append(portion(expert, products[-1], laid, made[:, start:]))
            kept.append(strips)
            start += strips.rows
    told, held = chosen.share(portions)
    plan.operations().append("share", told, held)
    plan.operations().append("gather", chosen.gather(x, laid, tokens=tokens), laid)
    plan.operations().together("product", products, kept)
    return made


def _gated(plan: Making, feed: Any, made: Tensor, name: str) -> Tensor:
    """What stands before the last map: (rows, F)."""
    hidden, rows = feed.spec.hidden, len(made)
    y = plan.floats(name, hidden, rows)
    told = Gate(gate=made.data_ptr(), y=y.data_ptr(), gate_row=made.shape[1], y_row=hidden, count=rows, width=hidden)
    told.activation = ACTIVATIONS.index(feed.spec.activation)
    if isinstance(feed, GatedFeed):
        told.up, told.up_row = made[:, hidden:].data_ptr(), made.shape[1]
    plan.operations().append("gate", told)
    return y


def _shared(plan: Making, feed: ExpertsFeed, x_ND: Tensor, y_ND: Tensor) -> None:
    """Adds what the shared expert makes of every row."""
    shared: Any = feed.shared
    *firsts, down = _maps(shared)
    made = plan.floats("shared", sum(kernel_weights.strips(one).rows for one in firsts))
    plan.products(getattr(shared, "fan", None), firsts, _laid(plan, x_ND, firsts), made)
    hidden_NF = _gated(plan, shared, made, "shared gated")
    if feed.shared_gate is None:
        plan.product(down, _laid(plan, hidden_NF, (down,)), y_ND, add=True)
        return
    # By a weight of its own: the sum over one choice, which every row has made.
    made_ND, weighed = plan.floats("shared made", y_ND.shape[1]), Chosen(plan.rows, 1, 1)
    plan.product(down, _laid(plan, hidden_NF, (down,)), made_ND, add=False)
    plan.product(feed.shared_gate, _laid(plan, x_ND, (feed.shared_gate,)), weighed.weights, add=False)
    told = Gate(gate=weighed.weights.data_ptr(), y=weighed.weights.data_ptr(), gate_row=1, y_row=1, count=plan.rows)
    told.width, told.activation = 1, ACTIVATIONS.index("sigmoid")
    plan.operations().append("gate", told, weighed)
    weighed.where.copy_(torch.arange(plan.rows))
    plan.operations().append("combine", weighed.combine(made_ND, y_ND, add=True))
