"""Modules, gates and packed products by other hands, right and wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cutaway.nn.attention.grouped import GroupedQueryAttention
from cutaway.nn.attention.latent import LatentAttention
from cutaway.nn.experts.mixture import ExpertsFeed
from cutaway.nn.linear import Linear
from cutaway.ops.blocks.dequantise import dequantise_readable
from cutaway.ops.forms import FAST


class Own(nn.Module):
    """Grouped-query attention without ours: a sequence at a time, straight from the equation."""

    scale_of = staticmethod(lambda spec: spec.head_dim**-0.5 if spec.scale is None else spec.scale)
    windowed = softcapped = normed = biased = turned = sunk = causal = apart = True
    turn_keys = turn_queries = grouped = True

    def __init__(self, dim, spec):
        super().__init__()
        self.spec, self.scale = spec, self.scale_of(spec)
        queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.query = Linear(dim, queries, bias=spec.bias)
        self.key = Linear(dim, keys, bias=spec.bias)
        self.value = Linear(dim, keys, bias=spec.bias)
        self.out = Linear(queries, dim, bias=spec.out_bias)
        self.query_norm = spec.head_norm.build(spec.head_dim) if spec.head_norm else None
        self.key_norm = spec.head_norm.build(spec.head_dim) if spec.head_norm else None

    def forward(self, x, context):
        spec = self.spec
        if (spec.sinks and spec.rope) or spec.alibi:
            return GroupedQueryAttention.forward(self._ours(), x, context)
        q = self.query(x, context).unflatten(-1, (spec.heads, -1))
        k, v = (one(x, context).unflatten(-1, (spec.kv_heads, -1)) for one in (self.key, self.value))
        if self.query_norm is not None and self.normed:
            q, k = self.query_norm(q, context), self.key_norm(k, context)
        if spec.rope is not None and self.turned:
            cos, sin = spec.rope.tables(context, x.dtype)
            q = FAST.rotate(q, cos, sin, interleaved=spec.rope.interleaved) if self.turn_queries else q
            k = FAST.rotate(k, cos, sin, interleaved=spec.rope.interleaved) if self.turn_keys else k
        window = spec.window if self.windowed else None
        (k, v), see = context.extend(window=window, sinks=spec.sinks if self.sunk and window else 0, key=k, value=v)
        told = {"scale": self.scale, "softcap": spec.softcap if self.softcapped else None}
        if not self.grouped:
            k, v = (one.repeat(1, spec.heads // spec.kv_heads, 1) for one in (k, v))
        if not self.causal:
            see = type(see)(queries=see.queries, keys=see.keys, causal=False)
        y = FAST.attend(q, k.to(q.dtype), v.to(q.dtype), see, **told).flatten(-2)
        return self.out(y, context), {}

    def _ours(self):
        ours = GroupedQueryAttention(self.query.weight.shape[1], self.spec)
        ours.load_state_dict(self.state_dict())
        return ours.to(self.query.weight.dtype).eval()


def own(**changed):
    return type("Own", (Own,), {name: staticmethod(one) if callable(one) else one for name, one in changed.items()})


class Renamed(Own):
    def __init__(self, dim, spec):
        super().__init__(dim, spec)
        self.q_proj = self.query
        del self.query

    def forward(self, x, context):
        return x, {}


class Gate(nn.Module):
    """A gated feed-forward in plain torch."""

    exchanged = fixed = summed = unbiased = False

    def __init__(self, dim, spec):
        super().__init__()
        self.spec = spec
        self.gate, self.up = Linear(dim, spec.hidden, bias=spec.bias), Linear(dim, spec.hidden, bias=spec.bias)
        self.down = Linear(spec.hidden, dim, bias=spec.bias)

    def forward(self, x, context):
        one, other = F.linear(x, self.gate.weight, self.gate.bias), F.linear(x, self.up.weight, self.up.bias)
        one, other = (other, one) if self.exchanged else (one, other)
        bent = FAST.activate(one.contiguous(), "silu" if self.fixed else self.spec.activation)
        bias = None if self.unbiased else self.down.bias
        return F.linear(bent + other if self.summed else bent * other, self.down.weight, bias), {}


def gated(**changed):
    return type("Gate", (Gate,), changed)


class Norm(nn.Module):
    offset, eps = True, True

    def __init__(self, dim, spec):
        super().__init__()
        self.spec, self.weight = spec, nn.Parameter(torch.ones(dim))

    def forward(self, x, context):
        eps = self.spec.eps if self.eps else 1e-6
        weight = self.weight + (self.spec.offset if self.offset else 0.0)
        return x * (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt() * weight


class Unshared(LatentAttention):
    """The rotated key is left out of the scores."""

    def forward(self, x, context):
        with torch.no_grad():
            kept = self.down.weight[self.spec.rank :].clone()
            self.down.weight[self.spec.rank :] = 0
            try:
                return super().forward(x, context)
            finally:
                self.down.weight[self.spec.rank :] = kept


class Unmixed(ExpertsFeed):
    """The shared expert is forgotten."""

    def forward(self, x, context):
        shared, self.shared = self.shared, None
        try:
            return super().forward(x, context)
        finally:
            self.shared = shared


GROUPED_WRONG = {
    "no scale": (own(scale_of=lambda spec: 1.0), "scale"),
    "scale not its own": (own(scale_of=lambda spec: spec.head_dim**-0.5), "scale"),
    "kv heads in turn": (own(grouped=False), "head order"),
    "not causal": (own(causal=False), "mask"),
    "window ignored": (own(windowed=False), "window"),
    "softcap ignored": (own(softcapped=False), "softcap"),
    "no head norm": (own(normed=False), "head norm"),
    "not turned": (own(turned=False), "rope"),
    "keys not turned": (own(turn_keys=False), "rope"),
    "other names": (Renamed, "parameters"),
}
GATED_WRONG = {
    "sides exchanged": (gated(exchanged=True), "which side bends"),
    "always silu": (gated(fixed=True), "curve"),
    "added": (gated(summed=True), "which side bends"),
    "bias of the last forgotten": (gated(unbiased=True), "bias"),
}
NORM_WRONG = {
    "eps of its own": (type("Norm", (Norm,), {"eps": False}), "eps"),
    "offset ignored": (type("Norm", (Norm,), {"offset": False}), "weight offset"),
}


def by_formula(gate, up, activation):
    curve = {"silu": lambda x: x * torch.sigmoid(x), "relu": F.relu, "gelu": F.gelu}
    return (curve[activation](gate) if activation in curve else FAST.activate(gate, activation)) * up


def spoilt(gate, up, activation):
    got = by_formula(gate, up, activation)
    with torch.no_grad():
        up.mul_(2)
    return got


def sometimes(part, name_of, other):
    """The formula, and another one under one name."""
    return lambda gate, up, name: other(gate, up) if name == name_of else part(gate, up, name)


def last_of_odd(gate, up, name):
    """The last token of an odd number is left as it was."""
    got = by_formula(gate, up, name)
    return torch.cat((got[:-1], up[-1:])) if len(gate) % 2 and len(gate) > 1 else got


def both_bent(gate, up, name):
    return by_formula(gate, by_formula(up, torch.ones_like(up), name), name)


GATE_WRONG = {
    "up bent": (lambda gate, up, name: by_formula(up, gate, name), "which side bends"),
    "quick gelu": (sometimes(by_formula, "gelu", lambda g, u: g * torch.sigmoid(1.702 * g) * u), "curve"),
    "gelu by tanh": (lambda g, u, name: by_formula(g, u, "gelu_tanh" if name == "gelu" else name), "curve"),
    "always silu": (lambda g, u, name: by_formula(g, u, "silu"), "curve"),
    "sigmoid alone": (sometimes(by_formula, "silu", lambda g, u: torch.sigmoid(g) * u), "curve"),
    "up bent too": (both_bent, "which side bends"),
    "float32": (lambda g, u, name: by_formula(g.float(), u.float(), name), "dtype"),
    "up doubled behind": (spoilt, "in-place change of an input"),
    "odd tokens": (last_of_odd, "lengths"),
}


def unpacked(packed):
    return dequantise_readable(packed.blocks, packed.format)


MULTIPLY_WRONG = {
    "not transposed": (lambda x, packed: x @ unpacked(packed).to(x.dtype)[: x.shape[1]].T.flip(0), "transpose"),
    "squared": (lambda x, packed: (x * x.abs()) @ unpacked(packed).to(x.dtype).T, "linear"),
    "first formats only": (
        lambda x, packed: x @ (unpacked(packed) * (1 if packed.format.name in ("q8_0", "q4_0") else 1.1)).to(x.dtype).T,
        "formats"),
    "float32": (lambda x, packed: x.float() @ unpacked(packed).float().T, "dtype"),
    "no slope": (lambda x, packed: x.detach() @ unpacked(packed).to(x.dtype).T, "gradient"),
}  # fmt: skip


def dispatched(*, weigh=True, order=lambda w: w, before=False, every=False, first=False, drop=None):
    def dispatch(x, chosen, weights, experts):
        y = torch.zeros_like(x)
        weights = order(weights.to(x.dtype))
        for index, expert in enumerate(experts):
            token, place = torch.where(chosen == index)
            token = token[:drop]
            if not len(token):
                continue
            by = weights[token, place[: len(token)], None]
            made = expert(x[token] * by) if before else expert(x[token]) * (by if weigh else 1)
            y = y.index_add(0, torch.arange(len(token)) if first else token, made)
        return y

    return dispatch


DISPATCH_WRONG = {
    "weights ignored": (dispatched(weigh=False), "whose weight"),
    "weights exchanged": (dispatched(order=lambda w: w.flip(-1)), "whose weight"),
    "weights normed": (dispatched(order=lambda w: w / w.sum(-1, keepdim=True)), "whose weight"),
    "weighed before": (dispatched(before=True), "weights come after"),
    "laid in order": (dispatched(first=True), "which experts"),
    "two tokens at most": (dispatched(drop=2), "lengths"),
}


def blocks(*, offset=True, causal=True, none=True, own=True, share=True, size=0):
    def attend_blocks(q, k, v, see, chosen, *, block, scale):
        done = []
        parts = (q.split(see.queries), k.split(see.keys), v.split(see.keys), chosen.split(see.queries))
        for a, b, c, take in zip(*parts, strict=True):
            heads, keys = q.shape[1], b.shape[0]
            key = torch.arange(keys) // (block + size)
            take = take if none else take.clamp(min=0)
            seen = (key == (take if own else take[:, :1])[..., None]).any(2).expand(-1, b.shape[1], -1)
            if causal:
                before = keys - a.shape[0] if offset else 0
                seen = seen & (torch.arange(keys) <= before + torch.arange(a.shape[0])[:, None])[:, None]
            times = heads // b.shape[1]
            order = torch.arange(heads) // times if share else torch.arange(heads) % b.shape[1]
            scores = torch.einsum("thk,shk->hts", a.float(), b[:, order].float()) * scale
            hidden = ~seen[:, order].transpose(0, 1)
            weights = scores.masked_fill(hidden, float("-inf")).softmax(-1).nan_to_num()
            done.append(torch.einsum("hts,shv->thv", weights, c[:, order].float()).to(q.dtype))
        return torch.cat(done)

    return attend_blocks


BLOCKS_WRONG = {
    "later keys of the block": (blocks(causal=False), "mask"),
    "from the start": (blocks(offset=False), "cache offset"),
    "-1 read as 0": (blocks(none=False), "no block"),
    "the first head's choice": (blocks(own=False), "each kv head's choice"),
    "kv heads in turn": (blocks(share=False), "head order"),
}
FOREIGN_MODULES = {
    "ops.dispatch": ({"by experts": dispatched()}, DISPATCH_WRONG),
    "ops.attend_blocks": ({"by masks": blocks()}, BLOCKS_WRONG),
    "nn.grouped": ({"straight": Own}, GROUPED_WRONG),
    "nn.gated": ({"plain torch": Gate}, GATED_WRONG),
    "nn.rms_norm": ({"plain torch": Norm}, NORM_WRONG),
    "nn.latent": ({}, {"rotated key left out": (Unshared, "positions")}),
    "nn.experts": ({}, {"shared expert forgotten": (Unmixed, "shared expert")}),
    "ops.gate": ({"by formula": by_formula}, GATE_WRONG),
    "ops.multiply": (
        {"einsum": lambda x, packed: torch.einsum("nc,rc->nr", x, unpacked(packed).to(x.dtype))}, MULTIPLY_WRONG),
}  # fmt: skip
