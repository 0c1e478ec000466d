"""Norms compared, by kind and by place; and the depth at which training with each of them breaks.

Before each part or behind each sum (Xiong et al. 2020, arXiv 2002.04745); LayerNorm (1607.06450), RMSNorm (1910.07467),
BatchNorm (1502.03167), none. Two things are measured: the loss of one model at equal weights, and, with ever more
blocks, whether a short training gets below what the mere frequencies of characters give, -sum p ln p. The first depth
at which it does not, or is no number, is where training breaks.
Departures: in training BatchNorm norms a token by all others of the batch, later ones included: what it predicts is
told to it in part, and in evaluation it is not. Deep models start as the Transformer did (Xavier), gradients have no
bound.
N tokens, flat · V vocabulary.   Read next: lab/compare/contest.py, nn/batch_norm.py, lab/cards/warm_up.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from statistics import mean
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.lab.compare import contest
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table
from cutaway.lab.compare.contest import Entrant
from cutaway.lab.compare.training import Setting, Text, matched, parameters
from cutaway.lab.page import Section, page
from cutaway.lab.plot import Axis, Line, legend, plot
from cutaway.models.decoder import Decoder
from cutaway.nn.batch_norm import BatchNorm
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.initialisation import Xavier
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.ops.forms import FAST, Forms, attended
from cutaway.train.fit import fit
from cutaway.train.objectives.causal import Causal
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.schedules import Constant, Scheduled

KINDS: Mapping[str, Any] = MappingProxyType({"layer": LayerNorm(), "rms": RMSNorm(), "batch": BatchNorm()})
MARGIN = 0.02  # of the frequencies' loss: by as much do batches differ
PARTS = (*(f"{place}-{kind}" for place in ("pre", "post") for kind in KINDS), "none")


@dataclass(frozen=True, kw_only=True)
class Deep:
    """The small models that grow deeper. `depths`: blocks, from few to many."""

    depths: tuple[int, ...] = (4, 8, 16, 32)
    dim: int = 32
    heads: int = 4
    length: int = 64
    rows: int = 8
    steps: int = 120
    rate: float = 3e-3

    def __post_init__(self) -> None:
        if list(self.depths) != sorted(set(self.depths)) or not all(depth >= 1 for depth in self.depths):
            raise BadInput("go from few blocks to many, none twice", field="Deep.depths")
        self.setting  # noqa: B018 (refuses what a training cannot be)

    @property
    def setting(self) -> Setting:
        names = ("dim", "heads", "length", "rows", "steps", "rate")
        return Setting(layers=1, **{name: getattr(self, name) for name in names})

    def model(self, part: str, depth: int, vocab: int) -> Decoder:
        feed = Plain(hidden=4 * self.dim, activation="gelu")
        return normed(replace(self.setting, layers=depth).decoder(vocab, self.setting.mixer(), feed), part)


@dataclass(frozen=True, kw_only=True)
class NormComparison:
    """`parts`: names of `PARTS`. `deep`: how depth is tried. `attend`: the form of attention that runs
    (ops/choice.py)."""

    parts: tuple[str, ...] = PARTS
    setting: Setting = field(default_factory=Setting)
    deep: Deep = field(default_factory=Deep)
    seed: int = 0
    attend: str | None = None

    def __post_init__(self) -> None:
        contest.checked(self.parts, PARTS, self.seed, self.attend)

    def _model(self, part: str, vocab: int) -> Decoder:
        setting = self.setting
        return matched(
            lambda hidden: normed(setting.decoder(vocab, setting.mixer(), Gated(hidden=hidden)), part),
            parameters(setting.usual(vocab)),
            name=part,
        )

    def cells(self) -> tuple[Cell, ...]:
        entrants = [Entrant(name=part, make=partial(self._model, part)) for part in self.parts]
        text = cache(lambda: Text.read(self.setting.corpus, self.deep.length))
        deep = [
            Cell(
                key=key(part, depth),
                about=f"{part}, {depth} blocks deep",
                seconds=self.deep.setting.seconds(self.deep.model(part, depth, contest.GUESS)),
                measure=partial(self._deepened, part, depth, text),
            )
            for part in self.parts
            for depth in self.deep.depths
        ]
        return (*contest.cells(entrants, self.setting, self.seed, attend=self.attend), *deep)

    def _deepened(self, part: str, depth: int, text: Callable[[], Text]) -> Figures:
        model, forms = self.deep.model(part, depth, text().vocab), attended(self.attend)
        loss = final_loss(model, text(), self.deep.setting, self.seed, forms)
        return {"loss": loss, "frequencies": unigram(text().training, text().vocab), "depth": depth}

    def breaks(self, part: str, measured: Measured) -> str:
        """The first depth at which training breaks, in words."""
        for depth in self.deep.depths:
            cell = measured.get(key(part, depth))
            if cell is None:
                return "–"
            if not learned(cell):
                return f"at {depth}"
        return f"not up to {self.deep.depths[-1]}" if self.deep.depths else "–"

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        losses = contest.table(self.parts, self.setting, self.seed, measured, "Norms by kind and place")
        rows = []
        for part in self.parts:
            cells = [measured.get(key(part, depth), {}) for depth in self.deep.depths]
            rows.append((part, self.breaks(part, measured), *(_written(cell) for cell in cells)))
        frequencies = next((cell["frequencies"] for cell in measured.values() if "frequencies" in cell), None)
        told = f"{frequencies:.3f}" if isinstance(frequencies, float) else "not yet known"
        deep = Table(
            title="The depth at which training breaks",
            columns=("part", "breaks", *(f"{depth} blocks" for depth in self.deep.depths)),
            rows=tuple(rows),
            note=f"Training loss at the end of {self.deep.steps} steps at width {self.deep.dim} and rate "
            f"{self.deep.rate:g}, no warm-up, gradients not bounded. It breaks where that is no number, or not "
            f"{MARGIN:.0%} below what the frequencies of characters alone give: {told}.",
            words=2,
        )
        return losses, deep

    def page(self, measured: Measured) -> str:
        losses, deep = self.tables(measured)
        lines = []
        for place, part in enumerate(self.parts):
            found = [(depth, measured.get(key(part, depth), {}).get("loss")) for depth in self.deep.depths]
            points = [(float(depth), float(one)) for depth, one in found if isinstance(one, (int, float))]
            lines.append(Line(name=part, points=points, place=place))
        across = Axis(title="blocks", log=True, ticks=tuple(map(float, self.deep.depths)))
        picture = plot(lines, across, Axis(title="loss after a short training", written=lambda one: f"{one:.2f}"))
        table = deep.section()
        depth = Section(
            title=table.title, note=table.note, body=legend(self.parts) + contest.alone(picture) + table.body
        )
        sections = contest.sections(self.parts, self.setting, self.seed, measured)
        batch = (
            "In training a batch norm lets each token see something of all others, later ones too; its loss on "
            "held-out text, where it may not, shows what that was worth."
        )
        lead = contest.lead(self.setting, self.attend, batch)
        return page("Norms compared", lead, [losses.section(), *sections, depth])


def key(part: str, depth: int) -> str:
    """The name of a cell that tries a depth."""
    return f"{part}, {depth} blocks"


def normed(model: Decoder, part: str) -> Decoder:
    """The decoder with its norms as `pre-rms` says: behind the last block there is one where they stand before."""
    place, _, kind = part.partition("-")
    norm = KINDS.get(kind)
    before, outside = (norm, None) if place == "pre" else (None, norm)
    blocks = tuple(Block(mixer=one.mixer, feed=one.feed, before=before, outside=outside) for one in model.blocks)
    return replace(model, blocks=blocks, norm=before)


def unigram(ids_N: Tensor, vocab: int) -> float:
    """What one pays who knows the characters' frequencies and nothing else, in nats."""
    shares_V = torch.bincount(ids_N, minlength=vocab).double() / len(ids_N)
    return float(torch.special.entr(shares_V).sum())


def learned(cell: Figures) -> bool:
    """Whether a training got below the frequencies, by more than chance."""
    loss, known = cell.get("loss"), cell.get("frequencies")
    return isinstance(loss, (int, float)) and isinstance(known, (int, float)) and loss < (1 - MARGIN) * known


def _written(cell: Figures) -> str:
    if not cell:
        return "–"
    loss = cell.get("loss")
    return f"{loss:.3f}" if isinstance(loss, (int, float)) else "no number"


def final_loss(model: Decoder, text: Text, setting: Setting, seed: int, forms: Forms = FAST) -> float:
    """The mean training loss of the last tenth of the steps; not a number where one of the losses was none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = model.build()
        Xavier().apply(module)
    optimiser = Scheduled(AdamW(rate=setting.rate).build(module), Constant())
    batches, losses = text.batches(setting, seed), []
    for step in fit(module, Causal(forms=forms), batches, optimiser, steps=setting.steps, clip=None):
        losses.append(step.loss)
        if not math.isfinite(step.loss):
            return math.nan
    return mean(losses[-max(1, setting.steps // 10) :])
