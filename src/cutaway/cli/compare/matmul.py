"""`cutaway compare matmul`: a matrix product from three lines of Python to the packed kernel, step by step.

Read next: lab/compare/matmul.py, docs/concepts/matmul.md
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cutaway.base.cores import cores
from cutaway.base.errors import BadInput
from cutaway.cli import threads
from cutaway.cli.compare.measuring import COMPARISONS, AsJson, Out, Run, compare, words
from cutaway.cli.console import megabytes, say

CHECKED = 32  # bytes of a weight while a product is held against the exact one, in float64
STEPS = "python,numpy,torch,scalar,vector,int8,prefetch,kernel"


def matmul(
    context: typer.Context,
    only: Annotated[str, typer.Option(metavar="NAME,...", help="Which steps.")] = STEPS,
    rows: Annotated[str, typer.Option(metavar="N,...", help="Rows of activations: 1 writes, 16 read.")] = "1,16",
    outputs: Annotated[int, typer.Option(help="Rows of the matrix, a multiple of 16.")] = 4096,
    inputs: Annotated[int, typer.Option(help="Columns of the matrix, a multiple of 32.")] = 4096,
    memory: Annotated[
        int | None,
        typer.Option(metavar="MB", help="Memory that copies of the matrix fill (four times the processor's cache)."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="For how long each figure is timed.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of weights and inputs.")] = 0,
    folder: Run = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """A matrix product from three lines of Python to our packed kernel, step by step, on this machine's roofline.

    Each step is held against the exact product, then timed in a process of its own. Steps in C++ need a compiler.
    Times want a machine that does nothing else. Stopped, the same command goes on; done, it shows its folder.
    """
    threads.yield_when_busy()
    chosen = words(only, "--only")
    kernels, lacks = _kernels(chosen)
    from cutaway.lab.compare.matmul import MatmulComparison

    comparison = MatmulComparison(
        steps=chosen,
        rows=_counts(rows),
        outputs=outputs,
        inputs=inputs,
        memory=_beyond_the_cache() if memory is None else memory << 20,
        seconds=seconds,
        threads=threads.wanted(context) or cores(),
        seed=seed,
        kernels=kernels,
        lacks=lacks,
    )
    _check_room(comparison.memory, comparison.outputs * comparison.inputs)
    compare("matmul", comparison, folder or _folder(only, chosen), out=out, as_json=as_json, timed=True)


def _counts(text: str) -> tuple[int, ...]:
    found = words(text, "--rows")
    wrong = next((word for word in found if not word.isdecimal() or len(word) > 9), None)
    if wrong is not None:
        raise BadInput(f'"{wrong}" is no number of rows', source="--rows")
    return tuple(map(int, found))


def _folder(only: str, chosen: tuple[str, ...]) -> Path:
    """Some steps alone have a folder of their own, so that those on the page can be run one after the other."""
    return COMPARISONS / ("matmul" if only == STEPS else f"matmul-{'-'.join(chosen)}"[:80])


def _beyond_the_cache() -> int:
    """Bytes that no cache of this machine holds; the same each time, whatever else has memory now."""
    from cutaway.cli import machine
    from cutaway.lab import measure

    found = machine.look()
    return measure.buffer_size(found.cache, found.memory)


def _check_room(memory: int, weights: int) -> None:
    """Raises BadInput where a step would take more memory than is free, as far as this machine tells."""
    from cutaway.cli import machine

    found = machine.look()
    free = found.memory if found.memory_free is None else found.memory_free
    takes = memory + CHECKED * weights
    if free is not None and takes > free:
        said = f"with this matrix a step takes about {megabytes(takes)}, and {megabytes(free)} of memory are free"
        raise BadInput(said, source="--memory")


def _kernels(chosen: tuple[str, ...]) -> tuple[str | None, str | None]:
    """The instruction set that C++ is compiled for, or why it is not. Compiles now, so that no cell has to."""
    from cutaway.lab.compare.matmul_steps import STEPS as KNOWN
    from cutaway.ops.cpu import first_use
    from cutaway.ops.cpu.instructions import VARIABLE
    from cutaway.ops.cpu.steps.library import steps

    if chosen and not any(name in KNOWN for name in chosen):
        return None, None  # the comparison refuses them
    if first_use.look(os.environ.get(VARIABLE, "")).state in ("missing", "building"):
        say("compiling kernels for this CPU, once: half a minute or so")
    found = steps()
    return found.set if found.library is not None else None, found.why
