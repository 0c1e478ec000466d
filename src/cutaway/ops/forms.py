"""Which form of each replaceable function runs: a frozen value of callables, handed down in the `Context`.

`READABLE` reads as the equations do, `FAST` is the same in fewer or fused calls, and a reader may put a function of
their own in any place: `replace(FAST, attend=mine)`. All forms of one function have one signature.
Read next: ops/attend.py, nn/context.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.ops import activation, norm, rope
from cutaway.ops.attend import attend_readable, attend_sdpa
from cutaway.ops.block_sparse import attend_blocks_gathered, attend_blocks_readable
from cutaway.ops.dispatch import dispatch_readable, dispatch_sorted
from cutaway.ops.multiply.fast import multiply_bfloat16, multiply_exact, multiply_fast
from cutaway.ops.multiply.narrow import narrow, never
from cutaway.ops.multiply.readable import multiply_readable
from cutaway.ops.tiled import attend_tiled

Form = Callable[..., Tensor]


def activate_readable(x_NF: Tensor, name: str) -> Tensor:
    """An activation by its name, elementwise."""
    return activation.READABLE[name](x_NF)


def activate_fast(x_NF: Tensor, name: str) -> Tensor:
    """The same by torch's kernel."""
    return activation.FAST[name](x_NF)


@dataclass(frozen=True, kw_only=True)
class Forms:
    """One callable for each function that parts call through their context; `narrow` chooses what they compute in."""

    attend: Form = attend_sdpa
    attend_blocks: Form = attend_blocks_gathered
    rotate: Form = rope.rotate_fast
    rms_norm: Form = norm.rms_norm_fast
    layer_norm: Form = norm.layer_norm_fast
    activate: Form = activate_fast
    gate: Form = activation.gate_fast
    multiply: Form = multiply_fast
    dispatch: Form = dispatch_sorted
    narrow: Callable[[int, frozenset[str]], torch.dtype | None] = narrow


FAST = Forms()
READABLE = Forms(
    attend=attend_readable,
    attend_blocks=attend_blocks_readable,
    rotate=rope.rotate_readable,
    rms_norm=norm.rms_norm_readable,
    layer_norm=norm.layer_norm_readable,
    activate=activate_readable,
    gate=activation.gate_readable,
    multiply=multiply_readable,
    dispatch=dispatch_readable,
    narrow=never,
)

# The names by which a command line or a file chooses forms. "exact" and "bfloat16" differ from "fast" where quantised
# weights are multiplied: nothing is rounded, or more is.
NAMED: Mapping[str, Forms] = MappingProxyType(
    {
        "fast": FAST,
        "readable": READABLE,
        "exact": Forms(multiply=multiply_exact, narrow=never),
        "bfloat16": Forms(multiply=multiply_bfloat16),
    }
)


def named(**chosen: str) -> Forms:
    """Forms by name, the others fast: `named(attend="readable")`. An unknown function or form is BadInput."""
    known = [field.name for field in fields(Forms)]
    forms: dict[str, Any] = {}
    for function, form in chosen.items():
        if function not in known:
            raise BadInput(f"no such function{did_you_mean(function, known)}: {', '.join(known)}", field=function)
        if function == "attend" and form in ATTEND:
            forms[function] = ATTEND[form].form
            continue
        names = [*NAMED, *ATTEND] if function == "attend" else list(NAMED)
        if form not in names:
            raise BadInput(f'no form "{form}"{did_you_mean(form, names)}: {", ".join(names)}', field=function)
        forms[function] = getattr(NAMED[form], function)
    return Forms(**forms)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A form of attention, and what it is in a few words."""

    name: str
    form: Form
    what: str


# What `--attend` takes.
ATTEND: Mapping[str, Choice] = MappingProxyType(
    {
        choice.name: choice
        for choice in (
            Choice(name="sdpa", form=attend_sdpa, what="torch's fused kernel; the readable form under a soft cap"),
            Choice(name="naive", form=attend_readable, what="the equation: all scores of a sequence at once"),
            Choice(name="tiled", form=attend_tiled, what="FlashAttention in plain torch: a tile of scores at a time"),
        )
    }
)


def choose_attend(name: str | None = None) -> Choice:
    """The rule by which an attention is taken: the one asked for, and BadInput where there is none of that name; where
    nothing is asked for, the one that is part of `FAST`."""
    if name is None:
        return next(choice for choice in ATTEND.values() if choice.form is FAST.attend)
    if name not in ATTEND:
        raise BadInput(f'no form "{name}"{did_you_mean(name, ATTEND)}: {", ".join(ATTEND)}', field="attend")
    return ATTEND[name]
