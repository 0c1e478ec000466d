"""What every class of modules is judged by: our own module with the same weights, and laws that hold for any.

A class is made of (dim, spec) and run by (x, context); its parameters are named as ours, so that a real model's go in.
A property may be one that a spec switches on: where the plain one comes out right and that one wrong, it has a name.
N tokens, flat · D model dim.   Read next: lab/swap/modules.py, lab/checks/mixer.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.lab.checks.mixer import check_packed, check_steps
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.sight import normal
from cutaway.lab.swap.trial import FORWARD, close, difference
from cutaway.lab.swap.verdict import Case
from cutaway.nn.context import Context
from cutaway.ops.forms import READABLE

DIM = 4
LENGTHS = ((1,), (2,), (7,), (3, 2))
Trial = Callable[[], Case | None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A class of ours, and specs by what each switches on; the first is the plain one. `rare`: specs that few
    models have, so that one that does not follow them passes, with a remark. `keeps`: it reads earlier
    tokens, through a cache. `turns`: the plain one knows the order of those by their positions."""

    ours: type[nn.Module]
    specs: Mapping[str, Any]
    rare: Mapping[str, Any] = field(default_factory=dict)
    keeps: bool = False
    turns: bool = False

    @property
    def plain(self) -> Any:
        return next(iter(self.specs.values()))


def brief(spec: Any) -> str:
    """The value, less what is as it would be anyway."""
    told = {one.name: getattr(spec, one.name) for one in fields(spec)}
    usual = {one.name: one.default for one in fields(spec)}
    return (
        f"{type(spec).__name__}({', '.join(f'{name}={value}' for name, value in told.items() if value != usual[name])})"
    )


def filled(ours: Callable[..., nn.Module], mine: Candidate, dim: int, spec: Any) -> tuple[nn.Module, nn.Module]:
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


def compared(kind: Kind, name: str, lengths: tuple[int, ...], mine: Candidate) -> Case | None:
    """Ours and theirs on one batch."""
    spec = {**kind.specs, **kind.rare}[name]
    what = f"{brief(spec)}, dim={DIM}, sequences of {lengths}"
    right, module = filled(kind.ours, mine, DIM, spec)
    if not isinstance(module, nn.Module):
        return Case(what=what, place="result", got=type(module).__name__, expected="a torch.nn.Module")
    if names(module) != names(right):
        return Case(what=what, place="parameters", got=str(names(module)), expected=str(names(right)))
    x_ND = normal(sum(lengths), DIM, seed=50)
    context = Context.of(lengths, forms=READABLE)
    given = x_ND.clone()
    with torch.no_grad():
        answer, expected = module(given, context), right(x_ND, Context.of(lengths, forms=READABLE))
    if isinstance(expected, tuple):
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
            return Case(what=what, place="result", got=type(answer).__name__, expected="(y_ND, report), a dict")
        answer, expected = answer[0], expected[0]
    if not isinstance(answer, Tensor) or answer.shape != expected.shape:
        got = str(tuple(answer.shape)) if isinstance(answer, Tensor) else type(answer).__name__
        return Case(what=what, place="shape", got=got, expected=str(tuple(expected.shape)))
    shown = {"x": f"shape {tuple(x_ND.shape)}"}
    case = difference("output", answer, expected, FORWARD[torch.float32], what, shown)
    return case or difference("input x after the call", given, x_ND, 0.0, what, shown)


def in_loops(oracle: Callable[..., Any], kind: Kind, name: str, mine: Candidate) -> Case | None:
    """Against the loops of lab/checks, which know nothing of our module."""
    spec = kind.specs[name]
    _, module = filled(kind.ours, mine, 3, spec)
    weights = {name: value.double().numpy() for name, value in module.state_dict().items()}
    x_ND = normal(2, 3, seed=7)
    expected = torch.from_numpy(oracle(x_ND.double().numpy(), weights, spec.activation))
    return difference(
        "output", output(module, x_ND, (2,)), expected, FORWARD[torch.float32], f"{brief(spec)}, in loops"
    )


def law(what: str, kind: Kind, name: str, mine: Candidate) -> Case | None:
    spec = kind.specs[name]
    _, module = filled(kind.ours, mine, DIM, spec)
    try:
        if what == "cached = uncached":
            check_steps(module, spec.streams(DIM), normal(7, DIM, seed=3), [3, 1, 1, 2])
        else:
            check_packed(module, spec.streams(DIM), [normal(length, DIM, seed=length) for length in (3, 5)])
    except AssertionError as error:
        return Case(what=f"{brief(spec)}: {what}", place="law", got=str(error), expected=what)
    return None


def trials(mine: Candidate, *, kind: Kind, oracle: Callable[..., Any] | None = None) -> Sequence[Trial]:
    """The plain spec first, in all lengths; then what each other adds, and the laws."""
    plain, *others = kind.specs
    made: list[Trial] = [partial(compared, kind, plain, lengths, mine) for lengths in LENGTHS]
    made += [partial(compared, kind, name, lengths, mine) for name in others for lengths in LENGTHS[2:]]
    if kind.keeps:
        made += [
            partial(law, what, kind, name, mine)
            for name in kind.specs
            for what in ("cached = uncached", "packed = alone")
        ]
    if oracle is not None:
        made += [partial(in_loops, oracle, kind, name, mine) for name in kind.specs]
    return made


def _parameters(mine: Candidate, *, kind: Kind) -> str | None:
    for name, spec in kind.specs.items():
        right, module = filled(kind.ours, mine, DIM, spec)
        lacking, more = set(names(right)) - set(names(module)), set(names(module)) - set(names(right))
        if not lacking and not more:
            continue
        said = [f"it lacks {', '.join(sorted(lacking))}"] if lacking else []
        said += [f"has {', '.join(sorted(more))}, which ours has not"] if more else []
        return f"{name}: {' and '.join(said)}"
    return None


def _same(kind: Kind, name: str, mine: Candidate) -> bool:
    return all(compared(kind, name, lengths, mine) is None for lengths in LENGTHS[2:])


def _added(mine: Candidate, *, kind: Kind, name: str) -> str | None:
    plain = next(iter(kind.specs))
    if not _same(kind, plain, mine):
        return None  # then it is not what this one adds
    with suppress(Exception):
        if _same(kind, name, mine):
            return None
    return f"{plain} comes out right, and with {name} wrong: {brief(kind.specs[name])}"


def _remarks(mine: Candidate, *, kind: Kind) -> list[str]:
    said = []
    for name in kind.rare:
        with suppress(Exception):
            if _same(kind, name, mine):
                continue
        said.append(f"it does not follow `{name}`: a model that has it cannot run on it")
    return said


def _alone(mine: Candidate, *, kind: Kind) -> str | None:
    """Tokens of another sequence do not count."""
    _, module = filled(kind.ours, mine, DIM, kind.plain)
    x_ND = normal(4, DIM, seed=9)
    other = x_ND.clone()
    other[3] += normal(DIM, seed=10)
    same = output(module, x_ND, (2, 2))[:2], output(module, other, (2, 2))[:2]
    return None if torch.allclose(*same, atol=1e-5) else "a token of another sequence changes the answer"


def _later(mine: Candidate, *, kind: Kind) -> str | None:
    _, module = filled(kind.ours, mine, DIM, kind.plain)
    x_ND = normal(7, DIM, seed=9)
    other = x_ND.clone()
    other[6] += normal(DIM, seed=10)
    change_N = (output(module, x_ND, (7,)) - output(module, other, (7,))).abs().amax(-1)
    return "a later token changes the answer of earlier ones" if bool((change_N[:6] > 1e-5).any()) else None


def _positions(mine: Candidate, *, kind: Kind) -> str | None:
    _, module = filled(kind.ours, mine, DIM, kind.plain)
    x_ND = normal(4, DIM, seed=9)
    last = [output(module, x_ND[list(order)], (4,))[-1] for order in ((0, 1, 2, 3), (2, 0, 1, 3))]
    return "the order of earlier tokens does not count: nothing turns with the position" if close(*last) else None


def _cached(mine: Candidate, *, kind: Kind) -> str | None:
    for name in kind.specs:
        case = law("cached = uncached", kind, name, mine)
        if case is not None:
            return f"{name}: token by token it gives another answer than at once: {case.got}"
    return None


def module_part(name: str, about: str, kind: Kind, *more: Probe, oracle: Callable[..., Any] | None = None) -> Part:
    """`more`: probes of what is inside, asked before what specs add."""
    told = {"kind": kind}
    keeping = (
        Probe(property="causality", find=partial(_later, **told)),
        Probe(property="cache", find=partial(_cached, **told)),
    )
    turning = (Probe(property="positions", find=partial(_positions, **told)),)
    others = list(kind.specs)[1:]
    return Part(
        name=name,
        about=about,
        ours=kind.ours,
        positional=2,
        optional={},
        trials=partial(trials, kind=kind, oracle=oracle),
        probes=(
            Probe(property="parameters", find=partial(_parameters, **told)),
            *more,
            *(turning if kind.turns else ()),
            *(Probe(property=one, find=partial(_added, kind=kind, name=one)) for one in others),
            *(keeping if kind.keeps else ()),
            Probe(property="tokens apart", find=partial(_alone, **told)),
        ),
        place=kind.ours.__name__,
        remarks=partial(_remarks, kind=kind),
    )
