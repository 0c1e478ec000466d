from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.base.errors import BadInput
from cutaway.lab.checks.mixer import check_mixer
from cutaway.nn.attention.cross import KEY, Cross
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context, Memory
from cutaway.ops.forms import FAST, READABLE

DIM = 24
VALUES = {
    "mha": Cross(heads=4, kv_heads=4, head_dim=6, bias=True, out_bias=True),
    "gqa": Cross(heads=6, kv_heads=2, head_dim=4),
    "not scaled": Cross(heads=2, kv_heads=1, head_dim=8, scale=1.0),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())
SOURCES = [torch.randn(n, DIM, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (5, 9, 1, 5)]


def build(spec: Cross) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spec.build(DIM)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.double()


def told(context: Context, sequences: tuple[int, ...]) -> Context:
    """Brings each sequence its own source, where the cache has nothing of the sequence yet."""
    held = context.cache.lengths if context.cache else (0,) * len(sequences)
    new = [SOURCES[one] if old == 0 else SOURCES[one][:0] for one, old in zip(sequences, held, strict=True)]
    if not any(len(one) for one in new):
        return context
    return replace(context, memory=Memory(x_SD=torch.cat(new), lengths=tuple(map(len, new))))


@EACH
def test_it_keeps_every_law(spec):
    check_mixer(build(spec), spec.streams(DIM), DIM, tell=told)


class Blurred(torch.nn.Module):
    """Wrong on purpose: reads the memories of its neighbours too."""

    def __init__(self, inner: torch.nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x_ND, context):
        if context.memory is not None and len(context.memory.lengths) > 1:
            rolled = context.memory.x_SD.roll(1, 0)
            context = replace(context, memory=Memory(x_SD=rolled, lengths=context.memory.lengths))
        return self.inner(x_ND, context)


def forgets_the_source(context: Context, sequences: tuple[int, ...]) -> Context:
    """Wrong on purpose: gives another source to a sequence that was taken back."""
    made = told(context, sequences)
    if context.cache and context.cache._cuts[0] and made.memory is not None:
        made = replace(made, memory=Memory(x_SD=-made.memory.x_SD, lengths=made.memory.lengths))
    return made


def test_the_laws_catch_what_is_wrong():
    spec = VALUES["mha"]
    with pytest.raises(AssertionError, match="packed"):
        check_mixer(Blurred(build(spec)), spec.streams(DIM), DIM, tell=told)
    with pytest.raises(AssertionError, match="restored"):
        check_mixer(build(spec), spec.streams(DIM), DIM, tell=forgets_the_source)


@EACH
def test_it_is_the_equation(spec):
    """A loop over sequences and heads, forward and gradient."""
    module, lengths = build(spec), (3, 1, 2)
    x_ND = torch.randn(6, DIM, dtype=torch.float64, requires_grad=True)
    m_SD = torch.cat(SOURCES[:3]).requires_grad_()
    memory = Memory(x_SD=m_SD, lengths=tuple(map(len, SOURCES[:3])))
    rows = []
    for x, m in zip(x_ND.split(lengths), m_SD.split(memory.lengths), strict=True):
        q, k, v = (
            part(one, Context.of((1,)))
            for part, one in zip((module.query, module.key, module.value), (x, m, m), strict=True)
        )
        heads = []
        for head in range(spec.heads):
            group = head * spec.kv_heads // spec.heads
            mine, theirs = (slice(one * spec.head_dim, (one + 1) * spec.head_dim) for one in (head, group))
            weights_TS = (q[:, mine] @ k[:, theirs].T * (spec.scale or spec.head_dim**-0.5)).softmax(-1)
            heads.append(weights_TS @ v[:, theirs])
        rows.append(module.out(torch.cat(heads, -1), Context.of((1,))))
    expected = torch.cat(rows)
    slope = torch.randn_like(expected)
    leaves = [x_ND, m_SD, *module.parameters()]
    wanted = torch.autograd.grad((expected * slope).sum(), leaves)
    for forms in (FAST, READABLE):
        y_ND, report = module(x_ND, replace(Context.of(lengths, forms=forms), memory=memory))
        assert report == {}
        torch.testing.assert_close(y_ND, expected, atol=1e-12, rtol=1e-10)  # float64 sums in another order
        for got, want in zip(torch.autograd.grad((y_ND * slope).sum(), leaves), wanted, strict=True):
            torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-10)


@EACH
@torch.no_grad()
def test_it_costs_what_it_says(spec):
    """Parameters and cache bytes exactly; FLOPs as torch counts the readable form's, with the source and behind it."""
    module, cache = build(spec).float(), ContiguousCache((spec.streams(DIM),))
    assert spec.cost(DIM, 1, 9).parameters == sum(parameter.numel() for parameter in module.parameters())
    for length, tokens in ((2, 2), (3, 1)):
        context = Context.of((tokens,), cache=cache, forms=READABLE)
        if length == tokens:
            context = replace(context, memory=Memory(x_SD=SOURCES[0].float(), lengths=(5,)))
        with FlopCounterMode(display=False) as counter:
            module(torch.randn(tokens, DIM), context)
        cache.advance((tokens,))
        assert counter.get_total_flops() == spec.cost(DIM, tokens, length, 5).flops
    assert cache.bytes == spec.cost(DIM, 1, 3, 5).cache_bytes


@torch.no_grad()
def test_keys_are_made_once():
    spec, counted = VALUES["mha"], []
    module, cache = build(spec), ContiguousCache((spec.streams(DIM),), dtype=torch.float64)
    module.key.register_forward_hook(lambda *_: counted.append(1))
    for _ in range(4):
        module(torch.randn(1, DIM, dtype=torch.float64), told(Context.of((1,), cache=cache), (0,)))
        cache.advance((1,))
    assert counted == [1]
    assert cache.read(0, KEY)[1] == (5,)


def test_entropy_is_reported_only_where_wanted():
    module = build(VALUES["gqa"])
    context = told(Context.of((2, 1), want=frozenset({"attention"})), (0, 1))
    entropy_NH = module(torch.randn(3, DIM, dtype=torch.float64), context)[1]["entropy_NH"]
    assert entropy_NH.shape == (3, 6)
    assert bool((entropy_NH[:2] <= math.log(5)).all()) and bool((entropy_NH > 0).all())


def test_dropout_acts_in_training_only():
    module, x_ND = build(replace(VALUES["gqa"], dropout=0.5)), torch.randn(3, DIM, dtype=torch.float64)
    context = told(Context.of((3,)), (1,))
    assert not torch.equal(module.train()(x_ND, context)[0], module(x_ND, context)[0])
    assert torch.equal(module.eval()(x_ND, context)[0], module(x_ND, context)[0])


def test_a_pass_without_any_memory_is_refused():
    module, x_ND = build(VALUES["mha"]), torch.randn(2, DIM, dtype=torch.float64)
    with pytest.raises(BadInput, match="no memory"):
        module(x_ND, Context.of((2,)))
    cache = ContiguousCache((VALUES["mha"].streams(DIM),), sequences=2, dtype=torch.float64)
    with torch.no_grad(), pytest.raises(BadInput, match="memories of"):
        module(x_ND, Context.of((1, 1), cache=cache))
    with pytest.raises(BadInput, match="memories of"):
        module(x_ND, replace(Context.of((2,)), memory=Memory(x_SD=torch.cat(SOURCES[:2]), lengths=(5, 9))))


@pytest.mark.parametrize("wrong", [{"heads": 0}, {"kv_heads": 3}, {"head_dim": -1}, {"dropout": 1.0}, {"scale": 0.0}])
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match="Cross"):
        Cross(**{"heads": 4, "kv_heads": 2, "head_dim": 8, **wrong})
