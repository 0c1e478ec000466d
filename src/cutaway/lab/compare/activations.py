"""Feed-forwards compared: what bends the hidden vector, with and without a gate, at equal weights.

Shazeer 2020 (arXiv 2002.05202), table 1: gated ones reach a lower loss with 2/3 of the width. Activations: see
ops/activation.py (ReLU, GELU arXiv 1606.08415, SiLU 1710.05941, GLU 1612.08083). No biases anywhere, as there.
Read next: lab/compare/contest.py, nn/feedforward.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from cutaway.lab.compare import contest
from cutaway.lab.compare.comparison import Cell, Measured, Table
from cutaway.lab.compare.contest import Entrant
from cutaway.lab.compare.training import Setting, matched, parameters
from cutaway.lab.page import page
from cutaway.models.decoder import Decoder
from cutaway.nn.feedforward import Gated, Plain


def _plain(name: str) -> Callable[[int], Plain]:
    return lambda hidden: Plain(hidden=hidden, activation=name, bias=False)


def _gated(name: str) -> Callable[[int], Gated]:
    return lambda hidden: Gated(hidden=hidden, activation=name)


FEEDS: Mapping[str, Callable[[int], Plain | Gated]] = MappingProxyType(
    {
        "relu": _plain("relu"),
        "gelu": _plain("gelu"),
        "silu": _plain("silu"),
        "glu": _gated("sigmoid"),
        "swiglu": _gated("silu"),
        "geglu": _gated("gelu"),
    }
)


@dataclass(frozen=True, kw_only=True)
class ActivationComparison:
    """`parts`: names of `FEEDS`. `attend`: the form of attention that runs (ops/choice.py)."""

    parts: tuple[str, ...] = tuple(FEEDS)
    setting: Setting = field(default_factory=Setting)
    seed: int = 0
    attend: str | None = None

    def __post_init__(self) -> None:
        contest.checked(self.parts, tuple(FEEDS), self.seed, self.attend)

    def entrants(self) -> tuple[Entrant, ...]:
        return tuple(Entrant(name=part, make=partial(self._model, part)) for part in self.parts)

    def _model(self, part: str, vocab: int) -> Decoder:
        setting = self.setting
        return matched(
            lambda hidden: setting.decoder(vocab, setting.mixer(), FEEDS[part](hidden)),
            parameters(setting.usual(vocab)),
            name=part,
        )

    def cells(self) -> tuple[Cell, ...]:
        return contest.cells(self.entrants(), self.setting, self.seed, attend=self.attend)

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        note = "The first three have two matrices, the others three of two thirds the width."
        return (contest.table(self.parts, self.setting, self.seed, measured, "Feed-forwards", note),)

    def page(self, measured: Measured) -> str:
        lead = contest.lead(self.setting, self.attend)
        sections = contest.sections(self.parts, self.setting, self.seed, measured)
        (table,) = self.tables(measured)
        return page("Feed-forwards compared", lead, [table.section(), *sections])
