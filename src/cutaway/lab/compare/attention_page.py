"""How attention compared is shown: the table, the plots against the context, what each name means.

Read next: lab/plot.py, lab/compare/attention.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cutaway.lab.compare.comparison import Measured, Table
from cutaway.lab.compare.mixers import about
from cutaway.lab.figures import measure_bars
from cutaway.lab.page import Section
from cutaway.lab.page import page as page
from cutaway.lab.plot import Axis, Line, beside, legend, plot
from cutaway.lab.units import counted, sized, timed


@dataclass(frozen=True, kw_only=True)
class Column:
    """A figure of a cell: its title, and how it is written. `per`: divided by the tokens of the context."""

    figure: str
    title: str
    written: Callable[[float], str]
    per: bool = False


COLUMNS = (
    Column(figure="parameters", title="parameters", written=counted),
    Column(figure="flops_per_token", title="FLOPs/token", written=counted),
    Column(figure="cache_bytes", title="cache/token", written=sized, per=True),
    Column(figure="prefill_seconds", title="prefill", written=timed),
    Column(figure="decode_seconds", title="decode", written=timed),
    Column(figure="peak_bytes", title="peak memory", written=sized),
)
PLOTS = (
    Column(figure="prefill_seconds", title="prefill: time to read the context", written=timed),
    Column(figure="decode_seconds", title="decode: time of one more token", written=timed),
    Column(figure="peak_bytes", title="peak memory of the prefill", written=sized),
    Column(figure="cache_bytes", title="cache behind the context", written=sized),
    Column(figure="flops_per_token", title="FLOPs of one more token", written=counted),
)
NOTE = (
    "FLOPs/token: one more token behind the context, multiply-adds as two. Cache/token: bytes kept behind the context, "
    "divided by its tokens. Prefill: the whole context in one pass, the median of several; decode: one more token, the "
    "median of up to 64. Peak memory: what the system counts for the first pass, beyond weights and inputs, in a "
    "process of its own."
)


def key(part: str, context: int) -> str:
    """The name of a cell."""
    return f"{part} at {context}"


def table(parts: Sequence[str], contexts: Sequence[int], measured: Measured) -> Table:
    """A row for each part and context; what is missing is a dash, and what failed says why."""
    rows = []
    for part in parts:
        for at, context in enumerate(contexts):
            found = [figure(measured, part, context, column) for column in COLUMNS]
            written = ["–" if one is None else column.written(one) for one, column in zip(found, COLUMNS, strict=True)]
            failed = measured.get(key(part, context), {}).get("failed")
            if failed:
                written[-1] = str(failed)
            rows.append(("" if at else part, f"{context:,}", *written))
    columns = ("part", "context", *(column.title for column in COLUMNS))
    return Table(title="Attention by part and context", columns=columns, rows=tuple(rows), note=NOTE)


def figure(measured: Measured, part: str, context: int, column: Column) -> float | None:
    """A cell's figure as a number, where there is one."""
    found = measured.get(key(part, context), {}).get(column.figure)
    if not isinstance(found, (int, float)):
        return None
    return found / context if column.per else float(found)


def sections(parts: Sequence[str], contexts: Sequence[int], measured: Measured) -> list[Section]:
    """Plots, bars and the table."""
    x = Axis(title="tokens of context", log=True, written=short, ticks=tuple(map(float, contexts)))
    pictures = []
    for column in PLOTS:
        lines = []
        for place, part in enumerate(parts):
            found = ((context, figure(measured, part, context, column)) for context in contexts)
            points = [(float(context), one) for context, one in found if one is not None]
            lines.append(Line(name=part, points=points, place=place))
        pictures.append(plot(lines, x, Axis(title=column.title, log=True, written=column.written)))
    first = [(part, figure(measured, part, contexts[0], COLUMNS[0])) for part in parts]
    bars = measure_bars([(part, one, counted(one)) for part, one in first if one is not None])
    told = Table(title="", columns=("part", "what it reads"), rows=tuple((one, about(one)) for one in parts), words=2)
    return [
        Section(title="Against the context", body=legend(parts) + beside(pictures)),
        Section(title="Parameters of the layer", body=f'<div class="panel">{bars}</div>'),
        Section(title="What the names mean", body=told.section().body),
        table(parts, contexts, measured).section(),
    ]


def short(context: float) -> str:
    """A number of tokens as people say it: 512, 2k, 32k."""
    whole = round(context)
    return f"{whole // 1024}k" if whole >= 1024 and whole % 1024 == 0 else f"{whole:,}"
