"""Which attention runs: the names that `--attend` takes, what each needs, and the one rule by which one is taken.

Where nothing is asked for, `sdpa` runs, on every device: it is the only form that was measured to be the fastest
anywhere. What is asked for runs, or says in one line why it cannot here; nothing else takes its place.
Read next: ops/forms.py, ops/attend.py, ops/tiled.py, ops/triton/flash.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

import torch
from torch import Tensor

from cutaway.base.errors import BadInput, CutawayError, MissingExtra
from cutaway.base.names import did_you_mean
from cutaway.ops.attend import Bias, attend_readable, attend_sdpa
from cutaway.ops.block_sparse import attend_blocks_gathered
from cutaway.ops.cpu.bend import activate_kernels
from cutaway.ops.cpu.build import kernels
from cutaway.ops.cpu.causal import attend_kernels
from cutaway.ops.cpu.dense import linear_kernels
from cutaway.ops.tiled import attend_tiled
from cutaway.ops.visible import Visible

Form = Callable[..., Tensor]


def attend_triton(
    q_NHK: Tensor,
    k_SGK: Tensor,
    v_SGK: Tensor,
    see: Visible,
    *,
    scale: float,
    softcap: float | None = None,
    dropout: float = 0.0,
    bias: Bias | None = None,
) -> Tensor:
    """`ops.triton.flash.attend_flash`, imported when first called. Raises what `triton_lacks` names."""
    error = triton_lacks()
    if error is not None:
        raise error
    from cutaway.ops.triton.flash import attend_flash

    return attend_flash(q_NHK, k_SGK, v_SGK, see, scale=scale, softcap=softcap, dropout=dropout, bias=bias)


def attend_blocks_triton(
    q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, see: Visible, chosen_NGJ: Tensor, *, block: int, scale: float
) -> Tensor:
    """`ops.triton.blocks.attend_blocks_flash`, likewise."""
    error = triton_lacks()
    if error is not None:
        raise error
    from cutaway.ops.triton.blocks import attend_blocks_flash

    return attend_blocks_flash(q_NHK, k_SGK, v_SGK, see, chosen_NGJ, block=block, scale=scale)


def interpreted() -> bool:
    """Whether the person asked Triton for its interpreter: the kernels then run on the CPU, one program at a time."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


def triton_lacks() -> CutawayError | None:
    """Why kernels of ops/triton cannot run here, or None."""
    if find_spec("triton") is None:
        if sys.platform != "linux":
            return BadInput("Triton is built for Linux only: take naive, tiled or sdpa", field="attend")
        return MissingExtra("triton", "triton")
    if interpreted():
        if not _for_interpreting():
            late = "TRITON_INTERPRET was set when Triton was imported already: set it before the program starts"
            return BadInput(late, field="attend")
        return None
    if not torch.cuda.is_available():
        told = "no GPU is here for Triton to compile for; TRITON_INTERPRET=1 in the environment runs it on the CPU"
        return BadInput(f"{told}, slowly", field="attend")
    return None


def _for_interpreting() -> bool:
    """Whether Triton, if it is in this process, was imported with its interpreter chosen: its own functions tell."""
    language = sys.modules.get("triton.language")
    return language is None or type(language.sum).__name__ == "InterpretedFunction"


def kernels_lack() -> CutawayError | None:
    """Why the kernels of ops/cpu cannot run here, or None."""
    found = kernels()
    return None if found.library is not None else BadInput(f"there are no kernels: {found.why}", field="attend")


def nothing() -> CutawayError | None:
    """What a form lacks that runs everywhere."""
    return None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A form of attention, what it is in a few words, and why it cannot run here, if so. `blocks`: what goes with it
    where blocks of keys are chosen; `activate`, `linear`: activations and linear maps that do, None for the usual."""

    name: str
    form: Form
    what: str
    blocks: Form = attend_blocks_gathered
    activate: Form | None = None
    linear: Form | None = None
    lacks: Callable[[], CutawayError | None] = nothing


# What `--attend` takes; the first runs where nothing is asked for.
ATTEND: Mapping[str, Choice] = MappingProxyType(
    {
        choice.name: choice
        for choice in (
            Choice(name="sdpa", form=attend_sdpa, what="torch's fused kernel; the readable form under a soft cap"),
            Choice(name="naive", form=attend_readable, what="the equation: all scores of a sequence at once"),
            Choice(name="tiled", form=attend_tiled, what="FlashAttention in plain torch: a tile of scores at a time"),
            Choice(
                name="kernels",
                form=attend_kernels,
                activate=activate_kernels,
                linear=linear_kernels,
                what="our own C++ in training on a CPU, linear maps and GELU with it; elsewhere as sdpa",
                lacks=kernels_lack,
            ),
            Choice(
                name="triton",
                form=attend_triton,
                blocks=attend_blocks_triton,
                what="FlashAttention-2 as GPU kernels; with TRITON_INTERPRET=1 in an interpreter on the CPU, slowly",
                lacks=triton_lacks,
            ),
        )
    }
)


def choose_attend(name: str | None = None) -> Choice:
    """The rule: the one asked for, or the first where nothing is. Raises BadInput where there is none of that name, and
    what the chosen one lacks."""
    if name is None:
        return next(iter(ATTEND.values()))
    if name not in ATTEND:
        raise BadInput(f'no form "{name}"{did_you_mean(name, ATTEND)}', field="attend")
    error = ATTEND[name].lacks()
    if error is not None:
        raise error
    return ATTEND[name]
