"""Attention compared: what each kind costs by its value, and what it takes when it runs, over contexts.

A cell is one kind at one context, in a process of its own (lab/compare/layer.py). Parameters, FLOPs and cache bytes
are worked out; times and memory are measured. FLOPs per token: of one more token behind the context.
Read next: lab/compare/mixers.py, lab/compare/attention_page.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from cutaway.base.errors import BadInput
from cutaway.base.seeds import LIMIT
from cutaway.lab.compare import attention_page
from cutaway.lab.compare.alone import ask
from cutaway.lab.compare.attention_training import AttentionTraining
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table, attention_in_words
from cutaway.lab.compare.layer import SECONDS
from cutaway.lab.compare.mixers import Shape, mixer, rate
from cutaway.nn.block import Mixer
from cutaway.ops.choice import choose_attend

PARTS = ("mha", "gqa:2", "mqa", "mla:64", "window:256", "nsa")
CONTEXTS = (512, 2048, 8192, 32_768)
START = 4.0  # seconds until a fresh process has imported torch
LONGEST = 1 << 22  # tokens; more would only fail, hours later


@dataclass(frozen=True, kw_only=True)
class AttentionComparison:
    """`parts`: names as in lab/compare/mixers.py; `contexts`: tokens; `attend`: the form that runs, None for the fast
    one; `threads`: processor threads of each cell; `train`: what is learned with each, too."""

    parts: tuple[str, ...] = PARTS
    contexts: tuple[int, ...] = CONTEXTS
    dim: int = 512
    heads: int = 8
    threads: int = 2
    seed: int = 0
    attend: str | None = None
    train: AttentionTraining | None = None

    def __post_init__(self) -> None:
        for name in ("parts", "contexts"):
            given = getattr(self, name)
            if not given or len(set(given)) != len(given):
                raise BadInput("names at least one, and none twice", field=name)
        if not all(1 <= context <= LONGEST for context in self.contexts):
            raise BadInput(f"must be 1 to {LONGEST:,} tokens", field="contexts")
        if self.threads < 1:
            raise BadInput(f"must be at least 1, is {self.threads}", field="threads")
        if not 0 <= self.seed < LIMIT:
            raise BadInput(f"must be from 0 to {LIMIT - 1}, is {self.seed}", field="seed")
        choose_attend(self.attend)
        for part in self.parts:
            mixer(part, self.shape)
        if self.train is not None:
            self.train.check(self.parts, self.shape)

    @property
    def shape(self) -> Shape:
        return Shape(dim=self.dim, heads=self.heads, longest=max(self.contexts))

    def cells(self) -> tuple[Cell, ...]:
        """One for each part and context, then what is trained."""
        cells = []
        for part in self.parts:
            value = mixer(part, self.shape)
            for context in self.contexts:
                once = self._flops(value, context) / (rate(part) * (1 + 0.7 * (self.threads - 1)))
                cells.append(
                    Cell(
                        key=attention_page.key(part, context),
                        about=f"{part} at {context:,} tokens",
                        seconds=START + max(SECONDS, once) + 1.0,
                        measure=partial(self._measure, part, context),
                    )
                )
        if self.train is not None:
            cells += self.train.cells(self.parts, self.shape, self.seed, self.attend)
        return tuple(cells)

    def _measure(self, part: str, context: int) -> Figures:
        value = mixer(part, self.shape)
        behind = value.cost(self.dim, 1, context)
        counted: Figures = {
            "parameters": behind.parameters,
            "flops_per_token": behind.flops,
            "prefill_flops": self._flops(value, context),
            "cache_bytes": behind.cache_bytes,
        }
        order = {
            "part": part,
            "context": context,
            "dim": self.dim,
            "heads": self.heads,
            "longest": max(self.contexts),
            "seed": self.seed,
            "attend": self.attend,
            "threads": self.threads,
        }
        return {**counted, **ask("cutaway.lab.compare.layer", order, threads=self.threads)}

    def _flops(self, value: Mixer, context: int) -> int:
        """Of reading the whole context."""
        return value.cost(self.dim, context, context).flops

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        table = attention_page.table(self.parts, self.contexts, measured)
        if self.train is None:
            return (table,)
        return table, *self.train.tables(self.parts, self.shape, self.seed, measured)

    def page(self, measured: Measured) -> str:
        lead = (
            f"One attention layer at dim {self.dim} with {self.heads} heads, float32, on {self.threads} processor "
            f"thread{'s' * (self.threads != 1)}; random weights and inputs, seed {self.seed}. "
            f"{attention_in_words(self.attend)}",
            "What each kind costs by its definition, and what it takes when it runs. Both axes of the plots are "
            "logarithmic: a slope of one means twice as much for twice the context.",
        )
        sections = attention_page.sections(self.parts, self.contexts, measured)
        if self.train is not None:
            sections += self.train.sections(self.parts, self.shape, self.seed, measured, self.attend)
        return attention_page.page("Attention compared", lead, sections)
