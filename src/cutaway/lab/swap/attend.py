"""`ops.attend` as a part to replace: the loops' cases, and every property of attention.

N tokens, flat · T query position · S key position · H query head · G kv head · K head dim
Read next: lab/swap/sight.py, lab/swap/scores.py, lab/checks/attend.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutaway.lab.checks.attend import CASES, Case, oracle
from cutaway.lab.swap import scores, sight, verdict
from cutaway.lab.swap.general import form_probes, sizes_told, sorted_sizes, taking
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.sight import normal
from cutaway.lab.swap.trial import Trial, attempt, close
from cutaway.ops.attend import attend_readable
from cutaway.ops.visible import Visible

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 32, 33, 64, 65, 127, 128, 129, 130, 257)
OPTIONAL = {
    "bias": "it takes no `bias`: T5, and whatever adds numbers to scores, cannot run on it",
    "dropout": "it takes no `dropout`: it cannot be trained with it",
}


def cases() -> list[Case]:
    """The loops' cases and a few smaller ones, the smallest first."""
    small = [
        Case(see=Visible(queries=(1,), keys=(1,)), heads=1, width=1, value_width=1),
        Case(see=Visible(queries=(1,), keys=(2,)), heads=1, width=2, value_width=2),
        Case(see=Visible(queries=(2,), keys=(2,)), heads=1, width=1, value_width=1),
        Case(see=Visible(queries=(2,), keys=(2,), causal=False), heads=1, width=1, value_width=1),
        Case(see=Visible(queries=(2,), keys=(3,)), heads=1, width=1, value_width=1),
        Case(see=Visible(queries=(1,), keys=(2,)), heads=4, groups=2, width=1, value_width=1),
        Case(see=Visible(queries=(1,), keys=(2,)), heads=1, width=1, value_width=1, softcap=0.5),
        Case(see=Visible(queries=(3,), keys=(3,), window=2), heads=1, width=1, value_width=1),
        Case(see=Visible(queries=(1, 1), keys=(1, 1)), heads=1, width=1, value_width=1),
        Case(see=Visible(queries=(2, 1), keys=(2, 1)), heads=1, width=1, value_width=1),
        Case(see=Visible(queries=(3,), keys=(3,), prefix=(2,)), heads=1, width=1, value_width=1),
        Case(see=Visible(queries=(4,), keys=(4,), window=2, sinks=1), heads=1, width=1, value_width=1),
        Case(see=Visible(queries=(1, 5), keys=(6, 5), window=2, sinks=2), heads=4, groups=2),
    ]
    return sorted([*small, *_together(), *CASES], key=lambda case: (case.biased, _size(case)))


def _together() -> list[Case]:
    """Every rule over a text, behind a cache, and in a batch of both; many heads: what is right for one alone."""
    rules: tuple[dict[str, Any], ...] = ({}, {"causal": False}, {"window": 2}, {"window": 2, "sinks": 1})
    lengths = (((3,), (3,)), ((1,), (4,)), ((2,), (4,)), ((2, 1), (2, 3)))
    made = []
    for queries, keys in lengths:
        prefix: dict[str, Any] = {"prefix": tuple(min(2, held) for held in keys)}
        for rule in (*rules, prefix):
            see = Visible(queries=queries, keys=keys, **rule)
            small: dict[str, Any] = {"heads": 2, "groups": 1, "width": 2, "value_width": 2}
            made += [Case(see=see, softcap=cap, **small) for cap in ((None, 0.5) if not rule else (None,))]
    for heads, groups in ((4, 1), (8, 2), (8, 8), (9, 3), (16, 4)):
        see = Visible(queries=(2,), keys=(3,))
        made.append(Case(see=see, heads=heads, groups=groups, width=2, value_width=2))
    return made


def _size(case: Case) -> int:
    return sum(case.see.queries) * case.heads * case.width + sum(case.see.keys) * case.groups * 2 * case.width


def told(case: Case) -> dict[str, Any]:
    said: dict[str, Any] = {"scale": case.scale, "softcap": case.softcap}
    return said | ({"bias": case.bias} if case.biased else {})


def trial(case: Case, dtype: torch.dtype = torch.float32) -> Trial:
    see = case.see
    queries, keys = sum(see.queries), sum(see.keys)
    shapes = {
        "q": (queries, case.heads, case.width),
        "k": (keys, case.groups, case.width),
        "v": (keys, case.groups, case.value_width),
    }
    inputs = {name: normal(*shape, seed=seed).double() for seed, (name, shape) in enumerate(shapes.items())}
    plain = {name: value for name, value in vars(see).items() if value is False or value not in (None, True, 0)}
    rules = ", ".join(f"{name}={value}" for name, value in plain.items())
    return Trial(
        what=f"{rules}; heads={case.heads}, kv_heads={case.groups}, width={case.width}"
        + (f", softcap={case.softcap}" if case.softcap else "")
        + (", bias" if case.biased else ""),
        inputs={**inputs, "see": see},
        options=told(case),
        oracle=lambda q, k, v, see, **told: oracle(q, k, v, case),
        smooth=attend_readable,
        learned=("q", "k", "v") if queries == keys and not see.prefix else (),
        dtype=dtype,
    )


def trials(candidate: Candidate) -> Sequence[Callable[[], verdict.Case | None]]:
    chosen = [case for case in cases() if taking(candidate, "bias") or not case.biased]
    made = [partial(attempt, trial(case), candidate) for case in chosen]
    half = Case(see=Visible(queries=(5,), keys=(9,)), heads=4, groups=2, width=8, value_width=8, scale=8**-0.5)
    made.append(partial(attempt, trial(half, torch.bfloat16), candidate))
    made += [partial(attempt, _long(length), candidate) for length in LENGTHS]
    return made


def _long(length: int) -> Trial:
    case = Case(see=Visible(queries=(length,), keys=(length,)), heads=2, groups=1, width=4, value_width=4, scale=0.5)
    # The readable form, itself held to the loops, answers for what would take them long.
    return replace(trial(case), learned=(), oracle=attend_readable)


def _lengths(candidate: Candidate) -> str | None:
    """Which lengths come out wrong, if some are right."""
    return sizes_told("lengths", *sorted_sizes(LENGTHS, lambda length: attempt(_long(length), candidate) is None))


def _value_width(attend: Candidate) -> str | None:
    see = Visible(queries=(3,), keys=(3,))
    q, k, v = normal(3, 2, 4), normal(3, 2, 4, seed=1), normal(3, 2, 4, seed=2)
    with torch.no_grad():
        whole = attend(q, k, v, see, scale=0.5)
        try:
            narrow = attend(q, k, v[..., :2].contiguous(), see, scale=0.5)
        except Exception as error:
            return f"values narrower than keys end in {type(error).__name__}"
    return None if close(narrow, whole[..., :2]) else "values of another width than keys come out otherwise"


def _bias(attend: Candidate) -> str | None:
    if not taking(attend, "bias"):
        return None
    see = Visible(queries=(3,), keys=(3,), causal=False)
    add = normal(1, 3, 3, seed=9)
    for cap in (None, 0.6):
        plain = sight.weights(attend, see, softcap=cap)
        biased = sight.weights(attend, see, softcap=cap, bias=lambda index: add)
        if close(plain, biased):
            return "`bias` is ignored" if cap is None else "`bias` is ignored under a soft cap"
        change = (biased.log() - plain.log()) - (biased.log() - plain.log())[..., :1]
        if not close(change, add - add[..., :1], 1e-3):
            said = "" if cap is None else " under a soft cap, which scores have before the bias"
            return f"what `bias` gives is not what is added to the scores{said}"
    adds = (normal(1, 2, 2, seed=10), normal(1, 3, 3, seed=11))
    both = sight.weights(attend, Visible(queries=(2, 3), keys=(2, 3)), bias=lambda index: adds[index])
    none = sight.weights(attend, Visible(queries=(2, 3), keys=(2, 3)))
    change = (both.log() - none.log())[0, 3:, 2:4]  # of the second sequence: queries 1 and 2, keys 0 and 1
    right = adds[1][0, 1:, :2]
    if close(change - change[:, :1], right - right[:, :1], 1e-3):
        return None
    return "of two sequences the second is not given its own: `bias(index)` is for the sequence of that index"


def _none(attend: Candidate) -> str | None:
    """A sequence that brings no queries into this pass."""
    see = Visible(queries=(0, 2), keys=(3, 2))
    q, k, v = normal(2, 2, 4), normal(5, 1, 4, seed=1), normal(5, 1, 4, seed=2)
    try:
        got = attend(q, k, v, see, scale=0.5)
    except Exception as error:
        return f"a sequence without queries in this pass ends in {type(error).__name__}"
    alone = attend(q, k[3:], v[3:], Visible(queries=(2,), keys=(2,)), scale=0.5)
    return None if close(got, alone) else "a sequence without queries in this pass is not passed over"


def _precision(attend: Candidate) -> str | None:
    """Values 2^-14 larger than ones come out so much larger; 1 + 2^-14 is a number of float32, and of no half
    precision."""
    see, value = Visible(queries=(3,), keys=(3,)), 1 + 2.0**-14
    q, k, v = normal(3, 1, 4), normal(3, 1, 4, seed=1), torch.ones(3, 1, 4)
    with torch.no_grad():
        ones, got = (attend(q, k, v * one, see, scale=0.5).double() for one in (1.0, value))
    error = float((got - value * ones).abs().max())
    if float((ones - 1).abs().max()) > 0.02:
        return None  # the weights do not sum to 1, or it is not the values that they weigh
    if 2.0**-18 < error < 0.02:
        return (
            f"values of {value:.7f} come out as {float(got.flatten()[0]):.7f}: something is rounded to half precision"
        )
    if error < 0.02:
        again, exact = (_float32_and_64(attend, see, wide) for wide in (torch.float32, torch.float64))
        apart = float((again.double() - exact.double()).abs().max())
        if 1e-4 < apart < 0.05:
            return f"float32 and float64 inputs give answers {apart:.2g} apart: something is rounded to half precision"
    return None


def _float32_and_64(attend: Candidate, see: Visible, wide: torch.dtype) -> Tensor:
    q, k, v = (normal(3, 1, 4, seed=seed).to(wide) * 2 for seed in range(3))
    with torch.no_grad():
        return attend(q, k, v, see, scale=0.5)


def _undropped(attend: Candidate) -> list[str]:
    if not taking(attend, "dropout"):
        return []
    see, v = Visible(queries=(8,), keys=(8,)), torch.ones(8, 4, 2)
    torch.manual_seed(0)
    with torch.no_grad():
        got = attend(normal(8, 4, 2), normal(8, 4, 2, seed=1), v, see, scale=0.5, dropout=0.5)
    return ["`dropout` changes nothing: what is trained on it is trained without"] if close(got, v) else []


def _call(attend: Candidate, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], dict[str, Any]]:
    see = Visible(queries=(3,), keys=(3,))
    return (*tuple(normal(3, 2, 4, seed=seed).to(dtype) for seed in range(3)), see), {"scale": 0.5}


def _bench() -> tuple[tuple[Any, ...], dict[str, Any]]:
    see = Visible(queries=(128,), keys=(128,))
    return (normal(128, 9, 64), normal(128, 3, 64, seed=1), normal(128, 3, 64, seed=2), see), {"scale": 0.125}


PART = Part(
    name="ops.attend",
    about="attention: each query takes a weighted mean of the values it may see",
    ours=attend_readable,
    positional=4,
    named=("scale", "softcap", "dropout"),
    optional=OPTIONAL,
    trials=trials,
    probes=(
        *form_probes(_call, attend_readable, tensors=3),
        Probe(property="precision", find=_precision),
        scores.VALUES,
        scores.AXIS,
        Probe(property="lengths", find=_lengths),
        scores.WIDTHS,
        *sight.PROBES,
        *scores.PROBES,
        sight.BATCH,
        Probe(property="value width", find=_value_width),
        Probe(property="bias", find=_bias),
        Probe(property="no tokens", find=_none),
    ),
    place="attend",
    remarks=_undropped,
    bench=_bench,
)
