"""`ops.multiply` as a part to replace: rows times a packed matrix.

N rows of x · R rows (outputs) · C columns (inputs).   Read next: ops/multiply/readable.py, ops/blocks/dequantise.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutaway.lab.swap.general import form_probes
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.sight import normal
from cutaway.lab.swap.trial import Trial, attempt, close
from cutaway.lab.swap.verdict import Case
from cutaway.ops.blocks.dequantise import dequantise_readable
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.multiply.readable import multiply_readable
from cutaway.ops.packed import Packed

NAMES = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1")


def matrix(name: str, rows: int, columns: int) -> Packed:
    format = FORMATS[name]
    return Packed(blocks=quantise(normal(rows, columns, seed=3), format), format=format)


def _loops(x: Tensor, packed: Packed) -> Tensor:
    w_RC = dequantise_readable(packed.blocks, packed.format).double()
    rows = [
        [sum(float(a) * float(b) for a, b in zip(x_C, w_C, strict=True)) for w_C in w_RC.tolist()] for x_C in x.tolist()
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(x.shape[0], w_RC.shape[0])


def trials(candidate: Candidate) -> Sequence[Callable[[], Case | None]]:
    made = []
    for name in NAMES:
        block = FORMATS[name].weights
        for tokens, rows, columns in ((1, 1, block), (1, 3, block), (3, 2, 2 * block)):
            inputs = {"x": normal(tokens, columns, seed=4).double() * columns**-0.5}
            packed = matrix(name, rows, columns)
            made.append(
                Trial(
                    what=f"x {(tokens, columns)} times {(rows, columns)} in {name}",
                    inputs={**inputs, "packed": packed},
                    oracle=_loops,
                    smooth=multiply_readable,
                    learned=("x",),
                )
            )
    return [partial(attempt, one, candidate) for one in made]


def _formats(candidate: Candidate) -> str | None:
    wrong = []
    for name in NAMES:
        packed = matrix(name, 3, 256)
        x = normal(2, 256) / 16
        try:
            good = close(candidate(x, packed), multiply_readable(x, packed))
        except Exception:
            good = False
        wrong += [] if good else [name]
    right = [name for name in NAMES if name not in wrong]
    return f"{', '.join(wrong)} come out wrong, {', '.join(right)} right" if wrong and right else None


def _linear(candidate: Candidate) -> str | None:
    packed = matrix("q8_0", 4, 32)
    one, other = normal(2, 32) / 6, normal(2, 32, seed=1) / 6
    got = candidate(one + other, packed)
    if not close(got, candidate(one, packed) + candidate(other, packed), 1e-3):
        return "it is not linear in x"
    return None


def _columns(candidate: Candidate) -> str | None:
    packed = matrix("q8_0", 32, 32)
    got, w_RC = candidate(torch.eye(32), packed), dequantise_readable(packed.blocks, packed.format)
    if close(got, w_RC.T, 1e-4):
        return None
    if close(got, w_RC, 1e-4):
        return "multiplied by w, and should be by its transpose"
    return "unit vectors do not give the columns of w"


def _call(candidate: Candidate, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ((normal(3, 32) / 6).to(dtype), matrix("q8_0", 4, 32)), {}


PART = Part(
    name="ops.multiply",
    about="rows times a quantised matrix: unpack the weights, multiply",
    ours=multiply_readable,
    positional=2,
    optional={},
    trials=trials,
    probes=(
        *form_probes(_call, multiply_readable, tensors=1, rows=1),
        Probe(property="transpose", find=_columns),
        Probe(property="linear", find=_linear),
        Probe(property="formats", find=_formats),
    ),
    place="multiply",
    bench=lambda: ((normal(1, 576), matrix("q4_1", 1536, 576)), {}),
)
