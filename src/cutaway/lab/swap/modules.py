"""Whole modules of `nn` as parts to replace: a class that is made of (dim, spec) and run by (x, context).

Its parameters are named as ours, so that a real model's weights go in. The verdict: loops or our own module with the
same weights, and the laws that hold for every such part: packed = alone, cached = uncached.
N tokens, flat · D model dim.   Read next: nn/feedforward.py, nn/attention/grouped.py, lab/checks/mixer.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.lab.checks.feedforward import gated_oracle, plain_oracle
from cutaway.lab.checks.mixer import check_packed, check_steps
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.sight import normal
from cutaway.lab.swap.trial import FORWARD, difference
from cutaway.lab.swap.verdict import Case
from cutaway.nn.attention.grouped import GroupedQuery, GroupedQueryAttention
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated, GatedFeed, Plain, PlainFeed
from cutaway.nn.norms import LayerNorm, LayerNormModule, RMSNorm, RMSNormModule
from cutaway.nn.positions import Rope
from cutaway.ops.forms import READABLE

Spec = Any
GROUPED = (
    GroupedQuery(heads=1, kv_heads=1, head_dim=2),
    GroupedQuery(heads=2, kv_heads=2, head_dim=2, bias=True, out_bias=True),
    GroupedQuery(heads=4, kv_heads=2, head_dim=4, rope=Rope(width=4)),
    GroupedQuery(heads=2, kv_heads=1, head_dim=4, rope=Rope(width=2, interleaved=True), scale=0.3),
    GroupedQuery(heads=2, kv_heads=1, head_dim=4, rope=Rope(width=4), head_norm=RMSNorm()),
    GroupedQuery(heads=2, kv_heads=1, head_dim=4, window=2),
    GroupedQuery(heads=2, kv_heads=1, head_dim=4, softcap=0.5),
)
FEEDS = tuple({"hidden": hidden, "activation": name, "bias": bias} for hidden, name, bias in (
    (1, "relu", False), (5, "silu", True), (3, "gelu_tanh", False), (4, "gelu", True),
))  # fmt: skip


def filled(ours: Callable[..., nn.Module], mine: Candidate, dim: int, spec: Spec) -> tuple[nn.Module, nn.Module]:
    """Ours and the reader's with the same random weights, large enough that every part shows."""
    right = ours(dim, spec).eval()
    for index, parameter in enumerate(right.parameters()):
        parameter.data = normal(*parameter.shape, seed=index + 1) * 0.7
    module = mine(dim, spec)
    if isinstance(module, nn.Module):
        module.load_state_dict(right.state_dict(), strict=names(module) == names(right))
        module.eval()
    return right, module


def names(module: nn.Module) -> list[str]:
    return sorted(module.state_dict())


def output(module: nn.Module, x_ND: Tensor, lengths: tuple[int, ...]) -> Any:
    with torch.no_grad():
        answer = module(x_ND, Context.of(lengths, forms=READABLE))
    return answer[0] if isinstance(answer, tuple) else answer


def _trial(ours: Callable[..., nn.Module], spec: Spec, lengths: tuple[int, ...], mine: Candidate) -> Case | None:
    dim, what = 4, f"{spec}, dim=4, sequences of {lengths}"
    right, module = filled(ours, mine, dim, spec)
    if not isinstance(module, nn.Module):
        return Case(what=what, place="result", got=type(module).__name__, expected="a torch.nn.Module")
    if names(module) != names(right):
        return Case(what=what, place="parameters", got=str(names(module)), expected=str(names(right)))
    x_ND = normal(sum(lengths), dim, seed=50)
    context = Context.of(lengths, forms=READABLE)
    with torch.no_grad():
        answer, expected = module(x_ND.clone(), context), right(x_ND, context)
    if isinstance(expected, tuple):
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
            return Case(what=what, place="result", got=type(answer).__name__, expected="(y_ND, report), a dict")
        answer, expected = answer[0], expected[0]
    if not isinstance(answer, Tensor) or answer.shape != expected.shape:
        got = str(tuple(answer.shape)) if isinstance(answer, Tensor) else type(answer).__name__
        return Case(what=what, place="shape", got=got, expected=str(tuple(expected.shape)))
    return difference("output", answer, expected, FORWARD[torch.float32], what, {"x": f"shape {tuple(x_ND.shape)}"})


def _loops(oracle: Callable[..., Any], ours: Callable[..., nn.Module], spec: Spec, mine: Candidate) -> Case | None:
    """Against the loops of lab/checks, which know nothing of our module."""
    _, module = filled(ours, mine, 3, spec)
    weights = {name: value.double().numpy() for name, value in module.state_dict().items()}
    x_ND = normal(2, 3, seed=7)
    expected = torch.from_numpy(oracle(x_ND.double().numpy(), weights, spec.activation))
    return difference("output", output(module, x_ND, (2,)), expected, FORWARD[torch.float32], f"{spec}, in loops")


def _law(what: str, spec: GroupedQuery, mine: Candidate) -> Case | None:
    _, module = filled(GroupedQueryAttention, mine, 4, spec)
    try:
        if what == "cached = uncached":
            check_steps(module, spec.streams(4), normal(7, 4, seed=3), [3, 1, 1, 2])
        else:
            check_packed(module, spec.streams(4), [normal(length, 4, seed=length) for length in (3, 5)])
    except AssertionError as error:
        return Case(what=f"{spec}: {what}", place="law", got=str(error), expected=what)
    return None


def _grouped_trials(mine: Candidate) -> Sequence[Callable[[], Case | None]]:
    made = [partial(_trial, GroupedQueryAttention, GROUPED[0], lengths, mine) for lengths in ((1,), (2,))]
    made += [
        partial(_trial, GroupedQueryAttention, spec, lengths, mine) for spec in GROUPED for lengths in ((5,), (3, 2))
    ]
    made += [
        partial(_law, what, spec, mine) for spec in GROUPED[1:] for what in ("cached = uncached", "packed = alone")
    ]
    return made


def _feed_trials(ours: Callable[..., nn.Module], value: Any, oracle: Callable[..., Any], mine: Candidate) -> list[Any]:
    made = [partial(_trial, ours, value(**told), lengths, mine) for told in FEEDS for lengths in ((1,), (3,), (2, 1))]
    return made + [partial(_loops, oracle, ours, value(**told), mine) for told in FEEDS]


def _norm_trials(ours: Callable[..., nn.Module], specs: tuple[Spec, ...], mine: Candidate) -> list[Any]:
    return [partial(_trial, ours, spec, lengths, mine) for spec in specs for lengths in ((1,), (3,))]


def _names(mine: Candidate, ours: Callable[..., nn.Module], spec: Spec) -> str | None:
    right, module = filled(ours, mine, 4, spec)
    lacking, more = set(names(right)) - set(names(module)), set(names(module)) - set(names(right))
    if not lacking and not more:
        return None
    said = [f"it lacks {', '.join(sorted(lacking))}"] if lacking else []
    return " and ".join([*said, *([f"has {', '.join(sorted(more))}, which ours has not"] if more else [])])


def _alone(mine: Candidate, ours: Callable[..., nn.Module], spec: Spec) -> str | None:
    """Tokens of another sequence (a feed or norm: any other token) do not count."""
    _, module = filled(ours, mine, 4, spec)
    x_ND = normal(4, 4, seed=9)
    other = x_ND.clone()
    other[3] += 1.0
    same = output(module, x_ND, (2, 2))[:2], output(module, other, (2, 2))[:2]
    return None if torch.allclose(*same, atol=1e-5) else "a token of another sequence changes the answer"


def _causal(mine: Candidate) -> str | None:
    _, module = filled(GroupedQueryAttention, mine, 4, GROUPED[2])
    x_ND = normal(4, 4, seed=9)
    other = x_ND.clone()
    other[3] += 1.0
    change_N = (output(module, x_ND, (4,)) - output(module, other, (4,))).abs().amax(-1)
    return "a later token changes the answer of earlier ones" if bool((change_N[:3] > 1e-5).any()) else None


def _positions(mine: Candidate) -> str | None:
    """Without rope, what a last token takes does not hang on the order of those before it; with rope it does."""
    for spec, counts in ((GROUPED[1], False), (GROUPED[2], True)):
        _, module = filled(GroupedQueryAttention, mine, 4, spec)
        x_ND = normal(4, 4, seed=9)
        last = [output(module, x_ND[list(order)], (4,))[-1] for order in ((0, 1, 2, 3), (2, 0, 1, 3))]
        if torch.allclose(*last, atol=1e-5) == counts:
            return "`spec.rope` is ignored: order does not count" if counts else "order counts, and there is no rope"
    return None


def _cached(mine: Candidate) -> str | None:
    case = _law("cached = uncached", GROUPED[2], mine)
    return None if case is None else f"token by token it gives another answer than at once: {case.got}"


def _module(
    name: str, about: str, ours: type[nn.Module], trials: Callable[[Candidate], Any], spec: Spec, *more: Probe
) -> Part:
    return Part(
        name=name,
        about=about,
        ours=ours,
        positional=2,
        optional={},
        trials=trials,
        probes=(
            Probe(property="parameters", find=partial(_names, ours=ours, spec=spec)),
            *more,
            Probe(property="tokens apart", find=partial(_alone, ours=ours, spec=spec)),
        ),
        place=ours.__name__,
    )


PARTS = (
    _module(
        "nn.grouped",
        "grouped-query attention as a module",
        GroupedQueryAttention,
        _grouped_trials,
        GROUPED[2],
        Probe(property="causality", find=_causal),
        Probe(property="positions", find=_positions),
        Probe(property="cache", find=_cached),
    ),
    _module(
        "nn.gated",
        "the gated feed-forward as a module",
        GatedFeed,
        partial(_feed_trials, GatedFeed, Gated, gated_oracle),
        Gated(hidden=5),
    ),
    _module(
        "nn.plain",
        "the plain feed-forward as a module",
        PlainFeed,
        partial(_feed_trials, PlainFeed, Plain, plain_oracle),
        Plain(hidden=5),
    ),
    _module(
        "nn.rms_norm",
        "RMS norm as a module",
        RMSNormModule,
        partial(_norm_trials, RMSNormModule, (RMSNorm(), RMSNorm(eps=0.5), RMSNorm(offset=1.0))),
        RMSNorm(),
    ),
    _module(
        "nn.layer_norm",
        "layer norm as a module",
        LayerNormModule,
        partial(_norm_trials, LayerNormModule, (LayerNorm(), LayerNorm(eps=0.5), LayerNorm(bias=False))),
        LayerNorm(),
    ),
)
