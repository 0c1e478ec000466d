"""Precisions compared: one model with its weights, and its cache, in each of them. Bytes, perplexity, tokens a second.

A cell is one precision, in a process of its own (lab/compare/rounded.py). Read next: ops/blocks/scheme.py,
nn/narrow_cache.py, cli/compare/precision.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cutaway.base.errors import BadInput
from cutaway.lab.compare.alone import ask
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table, attention_in_words
from cutaway.lab.compare.rounded import EIGHT, GPTQ, PROMPT, TOKENS, scheme_named
from cutaway.lab.figures import measure_bars
from cutaway.lab.page import Section, page
from cutaway.lab.units import sized
from cutaway.nn.narrow_cache import kept_named
from cutaway.ops.blocks.scheme import precision_named
from cutaway.ops.choice import choose_attend

AS_IS = "as-is"
WEIGHTS = (
    AS_IS,
    "float32",
    "bfloat16",
    "int8:tensor",
    "int8:row",
    "int4:row",
    "int4:group=128",
    "int4:group=64",
    "int4:group=64,gptq",
    "int4:group=32",
    "int4:group=32,asymmetric",
    "q8_0",
    "q4_1",
    "q4_0",
)
CACHES = ("float32", "bfloat16", "int8")
OPENING, PASS = 4.0, 2e-10  # seconds; of a pass of few rows, for each parameter, on two cores
CALIBRATING = 6e-7  # the same, of GPTQ


@dataclass(frozen=True, kw_only=True)
class PrecisionComparison:
    """`weights`: names as in ops/blocks/scheme.py, or "as-is", what the model came in. `caches`: names of
    nn/narrow_cache.py, each with the weights as they came. `passages` of `length` tokens of `text` are read.
    `parameters`: the model's, by which the time is guessed. `attend`: the form of attention (ops/choice.py)."""

    model: str
    text: str
    weights: tuple[str, ...] = WEIGHTS
    caches: tuple[str, ...] = CACHES
    passages: int = 4
    length: int = 512
    threads: int = 2
    parameters: int = 135_000_000
    seed: int = 0
    attend: str | None = None

    def __post_init__(self) -> None:
        if not self.weights + self.caches:
            raise BadInput("names nothing to measure", field="weights")
        for name, given in (("weights", self.weights), ("caches", self.caches)):
            if len(set(given)) != len(given):
                raise BadInput("names one twice", field=name)
        for name in self.weights:
            if name != AS_IS and scheme_named(name) is None:
                precision_named(name)
        for name in self.caches:
            kept_named(name)
        choose_attend(self.attend)
        for name, least in (("passages", 1), ("length", 2), ("threads", 1), ("parameters", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"must be at least {least}, is {getattr(self, name)}", field=name)

    def cells(self) -> tuple[Cell, ...]:
        passes = self.passages * self.length / EIGHT + TOKENS + PROMPT / EIGHT
        seconds = OPENING + passes * PASS * self.parameters
        pairs = [(weights, None) for weights in self.weights] + [(AS_IS, cache) for cache in self.caches]
        return tuple(
            Cell(
                key=key(weights, cache),
                about=key(weights, cache),
                seconds=seconds + (CALIBRATING * self.parameters if weights.endswith(GPTQ) else 0.0),
                measure=partial(self._measure, None if weights == AS_IS else weights, cache),
            )
            for weights, cache in pairs
        )

    def _measure(self, weights: str | None, cache: str | None) -> Figures:
        order = {"model": self.model, "text": self.text, "weights": weights, "cache": cache, "threads": self.threads}
        order |= {"count": self.passages, "length": self.length, "attend": self.attend}
        return ask("cutaway.lab.compare.rounded", order, threads=self.threads)

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        weights = [_row(measured, key(name), name, self._best(measured)) for name in self.weights]
        caches = [_row(measured, key(AS_IS, name), name, self._best(measured), cache=True) for name in self.caches]
        shared = ("perplexity", "to float32", "writes tok/s", "reads tok/s")
        made = []
        if weights:
            columns = ("weights", "bytes", "bits each", *shared)
            note = self._note(measured)
            made.append(Table(title="Weights by precision", columns=columns, rows=tuple(weights), note=note))
        if caches:
            columns = ("cache", "bytes/token", *shared)
            note = "With the weights as they came. Bytes a token behind 1,024 of them; int8 has a scale for each head."
            made.append(Table(title="Keys and values by precision", columns=columns, rows=tuple(caches), note=note))
        return tuple(made)

    def _best(self, measured: Measured) -> float | None:
        """The perplexity that others are held against: of float32 weights, or of what the model came in."""
        found = [_figure(measured, key(name), "perplexity") for name in ("float32", AS_IS)]
        found.append(_figure(measured, key(AS_IS, "float32"), "perplexity"))
        return next((one for one in found if one is not None), None)

    def _note(self, measured: Measured) -> str:
        passages = f"{self.passages} passage{'s' * (self.passages > 1)} of {self.length} tokens of {self.text}"
        told = (
            f"Perplexity of {passages}, read {EIGHT} tokens at a time. "
            "Norms stay float32; the token table, which may be the head too, keeps 8 bits where others have 4."
        )
        formats = measured.get(key(AS_IS), {}).get("formats")
        if isinstance(formats, Sequence) and any(not str(one).startswith(("float", "bfloat")) for one in formats):
            held = " and ".join(map(str, formats))
            told += (
                f" The file's matrices are in {held} already: float32 is those numbers unpacked, and what another "
                f"precision costs comes on top of what the file has lost; its own format costs nothing again."
            )
        return told

    def page(self, measured: Measured) -> str:
        best, sections = self._best(measured), []
        cells = [(name, key(name)) for name in self.weights] + [
            (f"cache {name}", key(AS_IS, name)) for name in self.caches
        ]
        pictures = (
            ("What it costs: perplexity above float32's", "perplexity", lambda one: max(0.0, one / (best or one) - 1)),
            ("Tokens a second, writing", "write_per_second", lambda one: one),
            ("Bytes of the weights", "weight_bytes", lambda one: one),
        )
        for title, figure, shown in pictures:
            rows = []
            for name, cell in cells:
                found = _figure(measured, cell, figure)
                if found is not None and not (figure == "weight_bytes" and name.startswith("cache")):
                    rows.append((name, shown(found), _beside(figure, found, best)))
            if rows:
                sections.append(Section(title=title, body=f'<div class="panel">{measure_bars(rows)}</div>'))
        lead = (
            f"{self.model}, each precision in a process of its own, on {self.threads} processor "
            f"thread{'s' * (self.threads != 1)}. {attention_in_words(self.attend)}",
            "int8 and int4: the nearest level under one scale for a tensor, a row or a group of columns; an asymmetric "
            "one has a level for zero. With gptq, columns to come make up for what each column loses. q8_0, q4_1 and "
            "q4_0 are GGUF's blocks of 32.",
        )
        return page("Precisions compared", lead, [*(table.section() for table in self.tables(measured)), *sections])


def key(weights: str, cache: str | None = None) -> str:
    """The name of a cell."""
    return f"weights {weights}" if cache is None else f"cache {cache}"


def _figure(measured: Measured, cell: str, name: str) -> float | None:
    found = measured.get(cell, {}).get(name)
    return float(found) if isinstance(found, (int, float)) else None


def _beside(figure: str, found: float, best: float | None) -> str:
    if figure == "perplexity":
        return f"{found:.3f} ({100 * (found / (best or found) - 1):+.2f}%)"
    return sized(found) if figure == "weight_bytes" else f"{found:.1f}"


def _row(measured: Measured, cell: str, name: str, best: float | None, *, cache: bool = False) -> tuple[str, ...]:
    """One precision in words; a dash where nothing is known, and why where it failed."""
    failed = measured.get(cell, {}).get("failed")
    size = _figure(measured, cell, "cache_bytes" if cache else "weight_bytes")
    perplexity = _figure(measured, cell, "perplexity")
    written = [sized(size) if size is not None else "–"]
    if not cache:
        count = _figure(measured, cell, "parameters")
        written.append(f"{8 * size / count:.2f}" if size is not None and count else "–")
    written.append(f"{perplexity:.3f}" if perplexity is not None else "–")
    written.append(f"{100 * (perplexity / best - 1):+.2f}%" if perplexity is not None and best else "–")
    for figure in ("write_per_second", "read_per_second"):
        found = _figure(measured, cell, figure)
        written.append(f"{found:.1f}" if found is not None else "–")
    return (name, *written[:-1], str(failed)) if failed else (name, *written)
