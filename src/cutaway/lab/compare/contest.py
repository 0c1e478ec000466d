"""A contest: models that differ in one part, each trained with several seeds, and the losses beside each other.

A cell is one model with one seed. The loss is told as the mean over seeds and their standard deviation (that of a
sample, divided by n - 1): differences well within it mean nothing.
Read next: lab/compare/training.py, lab/compare/activations.py (a contest and nothing else)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.base.seeds import LIMIT
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table, attention_in_words
from cutaway.lab.compare.dots import dot_rows
from cutaway.lab.compare.training import Adapt, Setting, Text, Trained, built, parameters, train
from cutaway.lab.page import Section
from cutaway.lab.plot import Axis, Line, legend, plot
from cutaway.lab.units import counted
from cutaway.models.decoder import Decoder
from cutaway.ops.choice import choose_attend
from cutaway.ops.forms import Forms, attended

GUESS = 100  # characters of a corpus that nobody has read yet, for an estimate of time


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One of those that are compared. `make`: its model, for a vocabulary. `slow`: how many times as long as the usual
    decoder its training takes for the same arithmetic. `score`: further figures, once it is trained."""

    name: str
    make: Callable[[int], Decoder]
    slow: float = 1.0
    adapt: Adapt | None = None
    score: Callable[[Trained, Text], Figures] | None = None


def checked(parts: Sequence[str], known: Sequence[str], seed: int, attend: str | None = None) -> None:
    """Raises BadInput where a name is not known or stands twice, or the seed is none; and what `choose_attend` says of
    an attention that cannot run here."""
    if not parts or len(set(parts)) != len(parts):
        raise BadInput("names at least one, and none twice", field="parts")
    for part in parts:
        if part not in known:
            raise BadInput(f'nothing here is called "{part}"{did_you_mean(part, known)}', field="parts")
    if not 0 <= seed < LIMIT:
        raise BadInput(f"must be from 0 to {LIMIT - 1}, is {seed}", field="seed")
    choose_attend(attend)


def key(name: str, seed: int) -> str:
    """The name of a cell."""
    return f"{name}, seed {seed}"


def cells(
    entrants: Sequence[Entrant],
    setting: Setting,
    seed: int,
    *,
    longest: int | None = None,
    attend: str | None = None,
) -> tuple[Cell, ...]:
    """Every entrant with every seed; the corpus is read when the first is measured. `longest`: tokens of the longest
    window that is read, where that is not the trained length. `attend`: the form of attention that runs."""
    forms = attended(attend)
    text = cache(lambda: Text.read(setting.corpus, longest or setting.length))
    return tuple(
        Cell(
            key=key(one.name, seed + place),
            about=f"training {one.name}, {place + 1} of {setting.seeds}",
            seconds=one.slow * setting.seconds(one.make(GUESS)),
            measure=partial(_measure, one, setting, seed + place, text, forms),
        )
        for one in entrants
        for place in range(setting.seeds)
    )


def _measure(one: Entrant, setting: Setting, seed: int, text: Callable[[], Text], forms: Forms) -> Figures:
    model = one.make(text().vocab)
    start = time.perf_counter()
    trained = train(built(model, seed), text(), setting, seed, one.adapt, forms)
    took = time.perf_counter() - start
    figures: Figures = {"parameters": parameters(model), "loss": trained.loss, "tokens": setting.tokens}
    figures |= {"curve": trained.curve, "seconds": took}
    return figures if one.score is None else {**figures, **one.score(trained, text())}


def found(measured: Measured, name: str, setting: Setting, seed: int, figure: str = "loss") -> list[float]:
    """A figure of every seed that has it."""
    every = (measured.get(key(name, seed + place), {}).get(figure) for place in range(setting.seeds))
    return [float(one) for one in every if isinstance(one, (int, float))]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation, as a person reads them; a dash where there is nothing."""
    if not values:
        return "–"
    about = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{about}"


def table(names: Sequence[str], setting: Setting, seed: int, measured: Measured, title: str, note: str = "") -> Table:
    """A row for each: weights, and the loss over seeds. A training that was no number is told."""
    rows = []
    for name in names:
        weights = found(measured, name, setting, seed, "parameters")
        losses = found(measured, name, setting, seed)
        broken = len(weights) - len(losses)
        rows.append(
            (
                name,
                counted(weights[0]) if weights else "–",
                spread(losses) + (f" ({broken} diverged)" if broken else ""),
                " ".join(f"{one:.3f}" for one in losses) or "–",
            )
        )
    over = f"; the mean over {setting.seeds} seeds and their standard deviation" if setting.seeds > 1 else ""
    told = (
        f"Loss: nats a character of text that was kept apart{over}. All read {counted(setting.tokens)} characters, "
        "with as many weights within 1%."
    )
    columns = ("part", "parameters", "validation loss", "each seed")
    return Table(title=title, columns=columns, rows=tuple(rows), note=f"{told} {note}".strip())


def alone(picture: str) -> str:
    """A plot that has no other beside it, no wider than it is easily read."""
    return f'<div class="panel" style="max-width: 46rem">{picture}</div>' if picture else ""


def lead(setting: Setting, attend: str | None, *more: str) -> tuple[str, ...]:
    """What was trained, for a person who opens the page."""
    what = (
        f"A decoder of {setting.layers} layers of {setting.dim}, {setting.heads} heads, trained from scratch on "
        f"{counted(setting.tokens)} characters of {setting.corpus} in windows of {setting.length}: {setting.steps} "
        f"steps, {setting.seeds} seed{'s' * (setting.seeds != 1)}. Everything but the part compared is alike. "
        f"{attention_in_words(attend)}"
    )
    small = "Models so small, trained so shortly, show tendencies: an order here need not be the order at size."
    return (what, *more, small)


def sections(names: Sequence[str], setting: Setting, seed: int, measured: Measured) -> list[Section]:
    """Every seed's loss as a dot, and how the first seeds went on their way."""
    losses = [(name, found(measured, name, setting, seed)) for name in names]
    dots = dot_rows([(name, values, spread(values)) for name, values in losses], "losses by seed")
    lines = []
    for place, name in enumerate(names):
        curve: Any = measured.get(key(name, seed), {}).get("curve") or ()
        points = [(float(x), float(y)) for x, y in curve if y is not None]
        lines.append(Line(name=name, points=points[len(points) // 10 :], place=place))
    ticks = tuple(float(setting.tokens) * part / 4 for part in range(5))
    across = Axis(title="characters read", written=lambda one: counted(round(one)), ticks=ticks)
    down = Axis(title="training loss, first seed", written=lambda one: f"{one:.2f}")
    return [
        Section(
            title="Validation loss",
            body=f'<div class="panel">{dots}</div>',
            note="A dot for each seed, a bar at their mean.",
        ),
        Section(title="On the way", body=legend(names) + alone(plot(lines, across, down))),
    ]
