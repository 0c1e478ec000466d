"""The C++ steps from a scalar loop to the packed kernel: compiled apart from the kernels that models run on.

    y_NR = product("int8", x_NC, strips.codes, strips.scales, outputs)
    read(buffer)                    # every byte once, and nothing else: how fast is memory?
    multiply_adds("fp32", 1000)     # in registers alone: how many are there in a second?

They are for whoever reads docs/concepts/matmul.md and measures it with `cutaway compare matmul`; nothing else calls
them. They take q4_0 alone, whole groups of 32 columns and whole strips of 16 rows.
Read next: ops/cpu/steps/scalar.cpp, ops/cpu/first_use.py
"""

# N rows of x · R rows (outputs) · C columns (inputs)

from __future__ import annotations

import os
from ctypes import CDLL, Structure, byref, c_double, c_int32, c_int64, c_uint64, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from cutaway.base.errors import BadInput, CutawayError
from cutaway.ops.cpu.build import Kernels, find_kernels, torch_pool
from cutaway.ops.cpu.commands import Failed
from cutaway.ops.cpu.compiler import compiled, find
from cutaway.ops.cpu.instructions import COMMON, ON, SETS, VARIABLE, opened
from cutaway.ops.cpu.pack import GROUP, LANES

FOLDER = Path(__file__).parent
SCALAR = ("-fno-tree-vectorize", "-fno-tree-slp-vectorize")
"""Without these a compiler would turn the scalar step into a vector one by itself, and there were nothing to see."""


class Product(Structure):
    """What a step is told (steps.h)."""

    _fields_: ClassVar = [
        ("codes", c_void_p),
        ("scales", c_void_p),
        ("x", c_void_p),
        ("y", c_void_p),
        ("rows", c_int32),
        ("outputs", c_int32),
        ("inputs", c_int32),
        ("threads", c_int32),
    ]


@lru_cache(maxsize=1)
def steps() -> Kernels:
    """The steps for the set that CUTAWAY_KERNELS names, or the best that this CPU has; or why there are none. They, and
    the kernels beside them, are compiled now if they are not yet: half a minute, once.

    BadInput where CUTAWAY_KERNELS is no name that there is.
    """
    return find_steps(os.environ.get(VARIABLE, "").strip() or ON)


def find_steps(asked: str) -> Kernels:
    """As `steps`, for a value of CUTAWAY_KERNELS, nothing remembered."""
    found, compiler = find_kernels(asked), find()
    if found.library is None or found.set is None or compiler is None:
        return found
    try:
        path = compiled(f"steps-{found.set}", sources(), (*COMMON, *SCALAR, *SETS[found.set].flags), compiler)
        library = opened(path)
    except Failed as error:
        return Kernels(state="failed", why=str(error))
    pool = torch_pool()
    if pool is not None:
        library.borrow_pool(*pool)
    library.read_memory.restype = c_uint64
    library.multiply_add_floats.restype = library.multiply_add_bytes.restype = c_double
    return Kernels(state="built", library=library, set=found.set)


def sources() -> tuple[Path, ...]:
    """What the steps are made from: this folder, and the threads that they share with the kernels."""
    return tuple(sorted((*FOLDER.glob("*.cpp"), FOLDER.parent / "pool.cpp")))


def product(step: str, x_NC: Tensor, codes: Tensor, scales: Tensor | None, outputs: int) -> Tensor:
    """x (N, C) float32 times a matrix of `outputs` rows -> (N, R), on as many threads as torch has.

    `step`: "scalar" takes blocks of q4_0 as codes and no scales; "vector", "int8" and "prefetch" those of `Strips`.
    Raises BadInput where shapes do not fit, CutawayError where there are no steps here.
    """
    rows, inputs = x_NC.shape
    if inputs % GROUP or outputs % LANES or x_NC.dtype != torch.float32 or not x_NC.is_contiguous():
        raise BadInput(
            f"steps take rows of whole groups of {GROUP} floats and make {LANES} outputs at a time", field="x"
        )
    held = codes.nbytes if scales is None else codes.nbytes + scales.nbytes
    if held != outputs * inputs // GROUP * 18:
        raise BadInput(f"{held} bytes are no {outputs} x {inputs} matrix of q4_0", field="codes")
    y_NR = torch.empty(rows, outputs)
    pointers = (None if one is None else one.data_ptr() for one in (codes, scales, x_NC, y_NR))
    told = Product(*pointers, rows, outputs, inputs, torch.get_num_threads())
    getattr(_loaded(), f"step_{step}")(byref(told))
    return y_NR


def read(buffer: Tensor) -> int:
    """Reads a tensor once, on as many threads as torch has; the sum of its 8-byte words, modulo 2^64. What is left
    behind the last whole 256 bytes is not read. Raises CutawayError where there are no steps here."""
    return _loaded().read_memory(c_void_p(buffer.data_ptr()), c_int64(buffer.nbytes), c_int32(torch.get_num_threads()))


def multiply_adds(kind: str, rounds: int) -> float:
    """Multiplies and adds in registers, on as many threads as torch has; how many multiply-adds that were: some ten
    thousand a round. `kind`: "fp32", or "int8" for bytes. Raises CutawayError where there are no steps here."""
    function = getattr(_loaded(), {"fp32": "multiply_add_floats", "int8": "multiply_add_bytes"}[kind])
    return function(c_int64(rounds), c_int32(torch.get_num_threads()))


def _loaded() -> CDLL:
    found = steps()
    if found.library is None:
        raise CutawayError(f"there are no steps in C++ here: {found.why}")
    return found.library
