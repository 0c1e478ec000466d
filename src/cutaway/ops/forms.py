"""Which form of each replaceable function runs: a frozen value of callables, handed down in the `Context`.

`READABLE` reads as the equations do, `FAST` is the same in fewer or fused calls, and a reader may put a function of
their own in any place: `replace(FAST, attend=mine)`. All forms of one function have one signature.
Read next: ops/choice.py, ops/attend.py, nn/context.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.ops import activation, linear, norm, rope
from cutaway.ops.attend import attend_readable, attend_sdpa
from cutaway.ops.block_sparse import attend_blocks_gathered, attend_blocks_readable
from cutaway.ops.choice import ATTEND, Form, choose_attend
from cutaway.ops.cpu.build import library
from cutaway.ops.cpu.multiply import multiply_kernels, multiply_kernels_int8, narrow_kernels
from cutaway.ops.delta import delta_chunked, delta_readable
from cutaway.ops.dispatch import dispatch_readable, dispatch_sorted
from cutaway.ops.multiply.fast import multiply_bfloat16, multiply_exact, multiply_fast
from cutaway.ops.multiply.narrow import narrow, never
from cutaway.ops.multiply.readable import multiply_readable
from cutaway.ops.paged import attend_paged_gathered, attend_paged_plainly


def activate_readable(x_NF: Tensor, name: str) -> Tensor:
    """An activation by its name, elementwise."""
    return activation.READABLE[name](x_NF)


def activate_fast(x_NF: Tensor, name: str) -> Tensor:
    """The same by torch's kernel."""
    return activation.FAST[name](x_NF)


def where_cheaper(cheaper: bool) -> bool:
    """Latent attention runs absorbed where that multiplies less."""
    return cheaper


@dataclass(frozen=True, kw_only=True)
class Forms:
    """One callable for each function that parts call through their context; `narrow` chooses what they compute in.
    `absorb` whether latent attention that leaves it open runs absorbed, told whether that multiplies less."""

    attend: Form = attend_sdpa
    attend_blocks: Form = attend_blocks_gathered
    attend_paged: Form = attend_paged_gathered
    rotate: Form = rope.rotate_fast
    rms_norm: Form = norm.rms_norm_fast
    layer_norm: Form = norm.layer_norm_fast
    activate: Form = activate_fast
    linear: Form = linear.linear_fast
    gate: Form = activation.gate_fast
    multiply: Form = multiply_fast
    dispatch: Form = dispatch_sorted
    delta: Callable[..., tuple[Tensor, Tensor]] = delta_chunked
    narrow: Callable[[int, frozenset[str]], torch.dtype | None] = narrow
    absorb: Callable[[bool], bool] = where_cheaper

    @property
    def in_pages(self) -> Form | None:
        """What attends where rows lie in pages; None where they are to be read first, as `attend` is not the usual one:
        a reader's own attention is what runs."""
        return self.attend_paged if self.attend is attend_sdpa else None


FAST = Forms()
READABLE = Forms(
    attend=attend_readable,
    attend_blocks=attend_blocks_readable,
    attend_paged=attend_paged_plainly,
    rotate=rope.rotate_readable,
    rms_norm=norm.rms_norm_readable,
    layer_norm=norm.layer_norm_readable,
    activate=activate_readable,
    linear=linear.linear_readable,
    gate=activation.gate_readable,
    multiply=multiply_readable,
    dispatch=dispatch_readable,
    delta=delta_readable,
    narrow=never,
)

ACTIVATIONS = ("float", "int8")
"""What multiplies quantised weights, by name: rows as they come, or rounded to int8 in groups of 32 columns."""

# The names by which a command line or a file chooses forms. All but "readable" differ from "fast" only where quantised
# weights are multiplied: "exact" rounds nothing, "bfloat16" more; "kernels" are our own C++ (ops/cpu), which round
# nothing either, "kernels-int8" the same with activations in int8.
NAMED: Mapping[str, Forms] = MappingProxyType(
    {
        "fast": FAST,
        "readable": READABLE,
        "exact": Forms(multiply=multiply_exact, narrow=never),
        "bfloat16": Forms(multiply=multiply_bfloat16),
        "kernels": Forms(multiply=multiply_kernels, narrow=never),
        "kernels-int8": Forms(multiply=multiply_kernels_int8, narrow=never),
    }
)


def attending(name: str | None = None, activations: str | None = None) -> Forms:
    """The forms that answer a person: the fast ones, our own kernels for quantised weights where they are compiled
    (ops/cpu/build.py, which begins to compile them where they are not), and the attention of a name, by the rule of
    `choose_attend`, which says what it raises. `activations`: "int8" asks for the kernels that round them; None and
    "float" round nothing. BadInput where either, or CUTAWAY_KERNELS, is no name that there is."""
    if activations not in (None, *ACTIVATIONS):
        said = f'no activations "{activations}"{did_you_mean(activations, ACTIVATIONS)}'
        raise BadInput(said, field="activations")
    if activations == "int8":
        return replace(attended(name), multiply=multiply_kernels_int8, narrow=never)
    kernels = {"multiply": multiply_kernels, "narrow": narrow_kernels} if library() is not None else {}
    return replace(attended(name), **kernels)


def attended(name: str | None = None) -> Forms:
    """The fast forms with the attention of a name, by the rule of `choose_attend`, which says what it raises."""
    choice = choose_attend(name)
    activate, linear = choice.activate or FAST.activate, choice.linear or FAST.linear
    return replace(FAST, attend=choice.form, attend_blocks=choice.blocks, activate=activate, linear=linear)


def named(**chosen: str) -> Forms:
    """Forms by name, the others fast: `named(attend="readable")`. An unknown function or form is BadInput."""
    known = [field.name for field in fields(Forms)]
    forms: dict[str, Any] = {}
    for function, form in chosen.items():
        if function not in known:
            said = did_you_mean(function, known) or f" (known: {', '.join(known)})"
            raise BadInput(f"no such function{said}", field=function)
        if function == "attend" and form in ATTEND:
            forms[function] = choose_attend(form).form
            continue
        names = [*NAMED, *ATTEND] if function == "attend" else list(NAMED)
        if form not in names:
            raise BadInput(f'no form "{form}"{did_you_mean(form, names)}', field=function)
        forms[function] = getattr(NAMED[form], function)
    return Forms(**forms)
