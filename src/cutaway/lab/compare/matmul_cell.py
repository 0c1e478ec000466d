"""One step from the loop to the packed kernel, or the machine's own limits, timed in a process of its own.

A step is first held against the product in float64: what is off by more than rounding can explain is not timed. Then it
is called again and again, each time with another copy of the matrix, of which there are enough to fill `memory` bytes:
so it finds its weights as a model does, in memory and not in the processor's cache (unless `memory` is smaller than
that). Times are the least of all calls: what else a machine does makes one longer and never shorter. The median is
kept beside it. The limits are measured the same way: bandwidth by reading pieces as large as a matrix, matmul rates by
square products of torch and by multiply-adds in registers.
N rows of x · R rows of w (outputs) · C columns (inputs).   Read next: lab/compare/matmul_steps.py
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch

from cutaway.base.errors import CutawayError
from cutaway.lab.compare.alone import answer
from cutaway.lab.compare.comparison import Figures
from cutaway.lab.compare.matmul_steps import PACKED, STEPS, Call, Matrix, allowed
from cutaway.lab.measure import matmul_rate
from cutaway.ops.cpu.instructions import OFF, VARIABLE
from cutaway.ops.cpu.memory import ARENA
from cutaway.ops.cpu.steps.library import multiply_adds, read, steps

LEAST = 3  # calls that are timed, however long they take
ROUNDS = 100  # of multiply-adds in registers: a millisecond or so
MACHINE = "machine"


def measure(
    step: str,
    rows: Sequence[int],
    *,
    shape: Sequence[int],
    memory: int,
    seconds: float,
    threads: int,
    seed: int,
    kernels: str | None,
) -> Figures:
    """Figures of `step`, one set for each number of rows by its decimal; or of the machine. `shape`: the matrix's
    outputs and inputs. `kernels`: the instruction set that C++ is to be compiled for; None: there is none.

    Raises CutawayError where a product is wrong, or where a step in C++ cannot be had.
    """
    outputs, inputs = shape
    torch.set_num_threads(threads)
    os.environ[VARIABLE] = kernels or OFF  # before anybody asks for kernels here
    with torch.inference_mode():
        if step == MACHINE:
            return machine(int(outputs * inputs * PACKED), memory, seconds)
        return {str(count): timed_step(step, count, outputs, inputs, memory, seconds, seed) for count in rows}


def timed_step(step: str, rows: int, outputs: int, inputs: int, memory: int, seconds: float, seed: int) -> Figures:
    """One step with so many rows of x: seconds of a call, operations, bytes of weights, how often it was timed, and the
    largest error as a share of what is allowed."""
    value = STEPS[step]
    outputs = value.most_outputs(outputs, inputs, rows)
    matrix, held = Matrix(outputs, inputs, seed), int(value.bytes * outputs * inputs)
    x_NC = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(seed + 1))
    calls = value.copies(matrix, -(-memory // held))
    return {
        "error": checked(step, calls[0], x_NC, matrix),
        "outputs": outputs,
        "operations": 2 * rows * outputs * inputs,
        "bytes": held,
        "copies": len(calls),
        **taken([partial(call, x_NC) for call in calls], seconds),
    }


def checked(step: str, call: Call, x_NC: torch.Tensor, matrix: Matrix) -> float:
    """The largest error of a product as a share of what is allowed. Raises CutawayError above 1."""
    w_RC = matrix.weights()
    off_NR = (call(x_NC).double() - x_NC.double() @ w_RC.double().T).abs()
    share = float((off_NR / allowed(x_NC, w_RC, STEPS[step].int8)).max())
    if not share <= 1:
        raise CutawayError(f"{step}: a product is off by {share:.3g} times what rounding can do: it is not timed")
    return share


def machine(piece: int, memory: int, seconds: float) -> Figures:
    """Bytes a second, read in pieces of so many bytes out of `memory`, by torch's sum and by a loop in C++ that does
    nothing else; operations a second of square products by torch in fp32 and int8, and of multiply-adds in registers
    alone. None: not here."""
    words = max(64, piece // 4)
    pieces = list(ARENA.empty(max(1, memory // piece), words, dtype=torch.float32).fill_(1.0))
    native = steps().library is not None
    found: Figures = {
        "torch_sum": words * 4 / _least([one.sum for one in pieces], seconds),
        "read_loop": words * 4 / _least([partial(read, one) for one in pieces], seconds) if native else None,
        "torch_fp32": matmul_rate(torch.float32, seconds),
        "torch_int8": matmul_rate(torch.int8, seconds),
    }
    for kind in ("fp32", "int8"):
        once = partial(multiply_adds, kind, ROUNDS)
        found[f"registers_{kind}"] = 2 * once() / _least([once], seconds) if native else None
    return found


def _least(calls: Sequence[Callable[[], object]], seconds: float) -> float:
    return float(taken(calls, seconds)["seconds"])


def taken(calls: Sequence[Callable[[], object]], seconds: float) -> dict[str, Any]:
    """Seconds of a call, the least and the median, calling each in turn for so long; the first is not counted."""
    calls[-1]()
    spent: list[float] = []
    for call in cycle(calls):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
        if (
            len(spent) >= LEAST and sum(spent) >= seconds
        ):  # not by the clock: a busy machine gives fewer calls, not none
            break
    return {"seconds": min(spent), "median": statistics.median(spent), "calls": len(spent)}


if __name__ == "__main__":
    answer(measure)
