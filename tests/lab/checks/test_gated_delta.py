"""The loops judge: ours holds, plausible mistakes are found out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.lab.checks.gated_delta import CASES, check_gated_delta, drawn, shapes
from cutaway.nn.context import Context
from cutaway.ops.delta import delta_chunked, delta_readable
from cutaway.ops.forms import FAST, READABLE, Forms


def run(spec, weights, x_ND, lengths, forms: Forms = FAST):
    module = spec.build(x_ND.shape[1])
    return torch.func.functional_call(module, weights, (x_ND, Context.of(lengths, forms=forms)))[0]


@pytest.mark.parametrize("forms", [FAST, READABLE], ids=["fast", "readable"])
def test_ours_holds(forms):
    check_gated_delta(lambda *given: run(*given, forms=forms))


def with_rule(change):
    """The module on a rule that is wrong in one thing."""
    return lambda *given: run(*given, forms=replace(FAST, delta=lambda *told: delta_chunked(*change(*told))))


def nothing_fades(q, k, v, fade, write, state, lengths):
    return q, k, v, torch.zeros_like(fade), write, state, lengths


def all_is_written(q, k, v, fade, write, state, lengths):
    return q, k, v, fade, torch.ones_like(write), state, lengths


def other_share(q, k, v, fade, write, state, lengths):
    """Value heads take turns over key heads, in place of standing beside each other."""
    turned = torch.arange(v.shape[1]).view(-1, k.shape[1]).t().flatten()
    return q, k, v[:, turned], fade, write, state, lengths


def adds_only(q, k, v, fade, write, state, lengths):
    """What is known is written again: linear attention with a gate, no delta."""
    rows, before = [], 0
    for length in lengths:
        held = torch.zeros_like(state[0])
        for t in range(before, before + length):
            share = v.shape[1] // k.shape[1]
            key, query = (one[t].repeat_interleave(share, 0)[..., None] for one in (k, q))
            held = fade[t].exp()[:, None, None] * held + key @ (write[t][:, None] * v[t])[:, None]
            rows.append((held.mT @ query)[..., 0])
        before += length
    return torch.stack(rows), state


def old_answer(q, k, v, fade, write, state, lengths):
    """A query is answered by the state before its own token."""
    y, state = delta_readable(q, k, v, fade, write, state, lengths)
    own = (q * k).sum(-1).repeat_interleave(v.shape[1] // k.shape[1], 1)[..., None]
    return y - own * write[..., None] * v, state


@pytest.mark.parametrize(
    "wrong",
    [
        with_rule(nothing_fades),
        with_rule(all_is_written),
        with_rule(other_share),
        lambda *given: run(*given, forms=replace(FAST, delta=adds_only)),
        lambda *given: run(*given, forms=replace(FAST, delta=old_answer)),
        lambda spec, weights, x, lengths: run(spec, weights, x, (sum(lengths),)),
        lambda spec, weights, x, lengths: run(replace(spec, norm=replace(spec.norm, eps=0.5)), weights, x, lengths),
        lambda spec, weights, x, lengths: run(spec, weights | {"fade": weights["fade"].detach()}, x, lengths),
    ],
    ids=["fade", "write", "share", "no delta", "old answer", "boundaries", "eps", "gradient"],
)
def test_what_is_wrong_is_found_out(wrong):
    with pytest.raises(AssertionError, match=r"output|gradient"):
        check_gated_delta(wrong)


def test_the_weights_are_those_of_the_module():
    for spec, _ in CASES:
        module = spec.build(4)
        assert {name: tuple(weight.shape) for name, weight in module.named_parameters()} == shapes(spec, 4)
        assert {name: tuple(weight.shape) for name, weight in drawn(spec, 4).items()} == shapes(spec, 4)
