"""Matrix products compared: from a loop of three lines to the packed kernel, beside what this machine can do at most.

A cell is one step, in a process of its own (lab/compare/matmul_cell.py), for each number of rows; the first is the
machine: the bandwidth of its memory and its matmul rates. Steps in C++ are not measured where none can be compiled.
Read next: docs/concepts/matmul.md, lab/compare/matmul_steps.py, lab/compare/matmul_page.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.base.seeds import LIMIT
from cutaway.lab.compare import matmul_page
from cutaway.lab.compare.alone import ask
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table
from cutaway.lab.compare.matmul_cell import MACHINE
from cutaway.lab.compare.matmul_steps import STEPS
from cutaway.ops.cpu.pack import GROUP, LANES

START = 4.0  # seconds until a fresh process has imported torch
MAKING = 1.2e-7  # of making one weight, in all its forms, and of checking the product
LARGEST = 1 << 28  # weights; more would only fail for want of memory


@dataclass(frozen=True, kw_only=True)
class MatmulComparison:
    """`steps`: names of lab/compare/matmul_steps.py. `rows` of activations, a table for each number. The matrix has
    `outputs` rows and `inputs` columns; copies of it fill `memory` bytes. Each figure is timed for `seconds`.
    `kernels`: the instruction set that C++ is compiled for, or None and in `lacks` why there is none."""

    steps: tuple[str, ...] = tuple(STEPS)
    rows: tuple[int, ...] = (1, 16)
    outputs: int = 4096
    inputs: int = 4096
    memory: int = 256 << 20
    seconds: float = 1.0
    threads: int = 2
    seed: int = 0
    kernels: str | None = None
    lacks: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "rows"):
            given = getattr(self, name)
            if not given or len(set(given)) != len(given):
                raise BadInput("names at least one, and none twice", field=name)
        for step in self.steps:
            if step not in STEPS:
                raise BadInput(f'no step is called "{step}"{did_you_mean(step, STEPS)}', field="steps")
        if not all(1 <= count <= 1024 for count in self.rows):
            raise BadInput("must be 1 to 1,024", field="rows")
        for name, unit in (("outputs", LANES), ("inputs", GROUP)):
            if getattr(self, name) < 1 or getattr(self, name) % unit:
                raise BadInput(f"must be a multiple of {unit}, is {getattr(self, name)}", field=name)
        if self.outputs * self.inputs > LARGEST:
            raise BadInput(f"{self.outputs * self.inputs:,} weights are too many: {LARGEST:,} at most", field="outputs")
        if not 1 <= self.memory <= 1 << 36:
            raise BadInput("must be 1 byte to 64 GB", field="memory")
        if not 0 < self.seconds <= 3600:
            raise BadInput(f"must be above 0 and an hour at most, is {self.seconds}", field="seconds")
        if self.threads < 1:
            raise BadInput(f"must be at least 1, is {self.threads}", field="threads")
        if not 0 <= self.seed < LIMIT:
            raise BadInput(f"must be from 0 to {LIMIT - 1}, is {self.seed}", field="seed")

    @property
    def measured_steps(self) -> tuple[str, ...]:
        """Those that can run here."""
        return tuple(step for step in self.steps if self.kernels is not None or not STEPS[step].native)

    def cells(self) -> tuple[Cell, ...]:
        """The machine, then a step each."""
        making = START + MAKING * self.outputs * self.inputs * len(self.rows)
        told = [(MACHINE, "this machine's limits", START + 4 * self.seconds)]
        told += [(step, f"step {step}", making + len(self.rows) * self.seconds) for step in self.measured_steps]
        return tuple(
            Cell(key=name, about=about, seconds=seconds, measure=partial(self._measure, name))
            for name, about, seconds in told
        )

    def _measure(self, step: str) -> Figures:
        # A loop that takes its time multiplies one row after the other, however many there are.
        once = step in STEPS and STEPS[step].most is not None
        order = {"step": step, "rows": self.rows[:1] if once else self.rows}
        order |= {"shape": (self.outputs, self.inputs)}
        order |= {name: getattr(self, name) for name in ("memory", "seconds", "threads", "seed", "kernels")}
        return ask("cutaway.lab.compare.matmul_cell", order, threads=self.threads)

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        return matmul_page.tables(self.steps, self.rows, self.lacks, measured)

    def page(self, measured: Measured) -> str:
        lead = (
            f"y = x w^T with a matrix of {self.outputs:,} outputs and {self.inputs:,} inputs, on {self.threads} "
            f"processor thread{'s' * (self.threads != 1)}"
            + (f", C++ compiled for {self.kernels}" if self.kernels else "")
            + f"; each call meets another of the copies that fill {self.memory / 2**20:,.0f} MB.",
            "A step does what the one before it does, and one thing more. docs/concepts/matmul.md shows their code.",
        )
        return matmul_page.whole(self.steps, self.rows, self.lacks, measured, lead)
