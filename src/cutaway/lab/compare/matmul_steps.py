"""The steps from a three-line loop to the packed kernel: what each multiplies with, and by what.

All multiply the same matrix, of 4-bit weights with a scale for each 32 (q4_0): the first three by what it stands for in
full numbers, the others by its 4 bits, so that each can be held against the same product in float64.
    y = x w^T        two operations for each weight and row of x
N rows of x · R rows of w (outputs) · C columns (inputs).   Read next: docs/concepts/matmul.md, ops/cpu/steps/scalar.cpp
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.cpu.memory import ARENA
from cutaway.ops.cpu.multiply import times_int8
from cutaway.ops.cpu.pack import GROUP, Strips, rounded
from cutaway.ops.cpu.steps.library import product

FORMAT = FORMATS["q4_0"]
PACKED = FORMAT.bytes / FORMAT.weights  # bytes of a weight, its share of the scale with it
BOXED = 32  # bytes of a weight in a list of Python's floats: a pointer of 8, and an object of 24
LOOP = 1 << 20  # weights that the loop in Python is given at most: more would only take longer
EPSILON = torch.finfo(torch.float32).eps

Call = Callable[[Tensor], Tensor]
"""x (N, C) -> y (N, R)."""


def multiply_python(x_NC: list[list[float]], w_RC: list[list[float]]) -> list[list[float]]:
    """The definition of y = x w^T, in lists of Python's floats."""
    y_NR = [[0.0] * len(w_RC) for _ in x_NC]
    for x_C, y_R in zip(x_NC, y_NR, strict=True):
        for output, w_C in enumerate(w_RC):
            y_R[output] = sum(x * w for x, w in zip(x_C, w_C, strict=True))
    return y_NR


def multiply_numpy(x_NC: Tensor, w_RC: Tensor) -> Tensor:
    """The same by the library of matrix products that numpy brings."""
    return torch.from_numpy(x_NC.numpy() @ w_RC.numpy().T)


def multiply_torch(x_NC: Tensor, w_RC: Tensor) -> Tensor:
    """The same by torch's."""
    return F.linear(x_NC, w_RC)


class Matrix:
    """A random matrix (R, C) in blocks of q4_0, and what each step needs of it."""

    def __init__(self, outputs: int, inputs: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.blocks = quantise(torch.randn(outputs, inputs, generator=generator), FORMAT)
        self.outputs, self.inputs = outputs, inputs

    def weights(self) -> Tensor:
        """The numbers that the blocks stand for, (R, C) float32."""
        return dequantise(self.blocks, FORMAT)

    def strips(self) -> Strips:
        return Strips.of(self.blocks, FORMAT)


@dataclass(frozen=True, kw_only=True)
class Step:
    """`new`: what it does that the one before did not. `bytes`: of a weight, as it reads it. `native`: whether it is in
    C++; `int8`: whether activations are rounded. `most`: weights that it is given at most, one row of x alone. `copies`
    makes so many calls, each with a matrix of its own."""

    name: str
    new: str
    copies: Callable[[Matrix, int], list[Call]]
    bytes: float = 4.0
    native: bool = False
    int8: bool = False
    most: int | None = None

    def most_outputs(self, outputs: int, inputs: int, rows: int) -> int:
        """How many rows of the matrix are multiplied: all, but in Python."""
        return outputs if self.most is None else max(1, min(outputs, self.most // (inputs * rows)))


def apart(tensor: Tensor) -> Tensor:
    """A copy in memory of its own, on huge pages where there are any (ops/cpu/memory.py)."""
    return ARENA.empty(*tensor.shape, dtype=tensor.dtype).copy_(tensor)


def _python(matrix: Matrix, count: int) -> list[Call]:
    w_RC = matrix.weights().tolist()
    return [lambda x_NC: torch.tensor(multiply_python(x_NC.tolist(), w_RC))]


def _plain(multiply: Callable[[Tensor, Tensor], Tensor], matrix: Matrix, count: int) -> list[Call]:
    w_RC = matrix.weights()
    return [partial(_with, multiply, apart(w_RC)) for _ in range(count)]


def _with(multiply: Callable[[Tensor, Any], Tensor], w_RC: Tensor | Strips, x_NC: Tensor) -> Tensor:
    return multiply(x_NC, w_RC)


def _scalar(matrix: Matrix, count: int) -> list[Call]:
    return [partial(_native, "scalar", apart(matrix.blocks), None, matrix.outputs) for _ in range(count)]


def _strips(step: str, matrix: Matrix, count: int) -> list[Call]:
    return [partial(_native, step, one.codes, one.scales, matrix.outputs) for one in _copied(matrix, count)]


def _native(step: str, codes: Tensor, scales: Tensor | None, outputs: int, x_NC: Tensor) -> Tensor:
    return product(step, x_NC, codes, scales, outputs)


def _kernel(matrix: Matrix, count: int) -> list[Call]:
    return [partial(_with, times_int8, one) for one in _copied(matrix, count)]


def _copied(matrix: Matrix, count: int) -> Sequence[Strips]:
    first = matrix.strips()
    assert first.scales is not None
    return [replace(first, codes=apart(first.codes), scales=apart(first.scales)) for _ in range(count)]


_packed = partial(Step, bytes=PACKED, native=True)
STEPS = MappingProxyType(
    {
        step.name: step
        for step in (
            Step(
                name="python",
                new="three lines, one multiply-add after the other",
                copies=_python,
                bytes=BOXED,
                most=LOOP,
            ),
            Step(
                name="numpy",
                new="a library's loops, over floats that lie in a row",
                copies=partial(_plain, multiply_numpy),
            ),
            Step(name="torch", new="another library's loops", copies=partial(_plain, multiply_torch)),
            _packed(name="scalar", new="4 bits a weight, in C++, one at a time", copies=_scalar),
            _packed(name="vector", new="sixteen outputs in the lanes of a register", copies=partial(_strips, "vector")),
            _packed(
                name="int8",
                new="activations in int8: 64 products by one instruction",
                copies=partial(_strips, "int8"),
                int8=True,
            ),
            _packed(
                name="prefetch",
                new="memory is asked for weights before they are needed",
                copies=partial(_strips, "prefetch"),
                int8=True,
            ),
            _packed(
                name="kernel",
                new="the one that models run on: a weight unpacked once for up to sixteen rows",
                copies=_kernel,
                int8=True,
            ),
        )
    }
)


def allowed(x_NC: Tensor, w_RC: Tensor, int8: bool) -> Tensor:
    """How far a product may be from the exact one, (N, R) float64: each of C additions in fp32 rounds a partial sum
    that is no larger than the sum of all magnitudes, in any order (Higham 2002, section 3.1), and scales and weights
    add some roundings. int8: a group's activations are off by half their scale at most (ops/cpu/pack.py).
    """
    sizes_RC = w_RC.double().abs()
    sums = (x_NC.shape[1] + 8) * EPSILON / 2 * (x_NC.double().abs() @ sizes_RC.T)
    if not int8:
        return sums
    half_NG = rounded(x_NC).scales_NG.double() / 2
    return 1.01 * sums + half_NG @ sizes_RC.unflatten(1, (-1, GROUP)).sum(2).T
