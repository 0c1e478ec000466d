"""Ways to tell a model where a token stands, and what becomes of each beyond the length that it was trained at.

Press et al. 2021 (ALiBi, arXiv 2108.12409), figure 1: trained short, read long. The same tokens are scored each time,
the last of every held-out window, behind ever more text: who reads on keeps the loss, or lowers it.
A model with RoPE is also read with its frequencies scaled, without further training: linear, dynamic NTK, YaRN
(nn/rope_scaling.py), each by the factor that the length asks for.
Beside waves, which are as large as 1, rows of the token table are multiplied by the root of the width, as Vaswani et
al. 2017 (arXiv 1706.03762) do in section 3.4; without it what is read drowns (a loss of 3.2 in place of 2.4).
Departure: a learned table ends with the trained length; rows beyond it are what rows are before any training.
N tokens, flat.   Read next: lab/compare/contest.py, nn/positions.py, lab/cards/alibi_extrapolation.py
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.lab.compare import contest
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table
from cutaway.lab.compare.contest import Entrant, key
from cutaway.lab.compare.training import Setting, Text, Trained, matched, parameters
from cutaway.lab.page import Section, page
from cutaway.lab.plot import Axis, Line, legend, plot
from cutaway.models.decoder import Decoder
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.feedforward import Gated
from cutaway.nn.positions import Learned, Rope, Sinusoidal
from cutaway.nn.rope_scaling import DynamicNtk, LinearScaling, Scaling, Yarn
from cutaway.ops.forms import Forms
from cutaway.train.objectives.causal import Causal
from cutaway.train.validation import validate

PARTS = ("learned", "sinusoidal", "rope", "alibi", "none")
SCALINGS: Mapping[str, Callable[[int, int], Scaling]] = MappingProxyType(
    {
        "rope, linear": lambda times, length: LinearScaling(factor=float(times)),
        "rope, dynamic NTK": lambda times, length: DynamicNtk(factor=1.0, original_length=length),
        "rope, YaRN": lambda times, length: Yarn(factor=float(times), original_length=length),
    }
)


@dataclass(frozen=True, kw_only=True)
class PositionComparison:
    """`parts`: names of `PARTS`. `beyond`: how many times the trained length is read. `attend`: the form of attention
    that runs (ops/choice.py)."""

    parts: tuple[str, ...] = PARTS
    beyond: tuple[int, ...] = (2, 4, 8)
    setting: Setting = field(default_factory=Setting)
    seed: int = 0
    attend: str | None = None

    def __post_init__(self) -> None:
        contest.checked(self.parts, PARTS, self.seed, self.attend)
        if any(times < 2 for times in self.beyond) or len(set(self.beyond)) != len(self.beyond):
            raise BadInput("are at least 2 times the trained length, none twice", field="beyond")

    @property
    def times(self) -> tuple[int, ...]:
        return (1, *self.beyond)

    def entrants(self) -> tuple[Entrant, ...]:
        return tuple(
            Entrant(name=part, make=partial(self._model, part), score=partial(self._score, part), slow=1.4)
            for part in self.parts
        )

    def _model(self, part: str, vocab: int) -> Decoder:
        setting, length = self.setting, self.setting.length
        mixer = setting.mixer(
            rope=Rope(width=setting.head_dim) if part == "rope" else None, alibi=Alibi() if part == "alibi" else None
        )
        added: dict[str, Any] = {
            "learned": {"positions": Learned(length=length)},
            "sinusoidal": {"positions": Sinusoidal(length=length), "embedding_scale": setting.dim**0.5},
        }
        return matched(
            lambda hidden: setting.decoder(vocab, mixer, Gated(hidden=hidden), **added.get(part, {})),
            parameters(setting.usual(vocab)),
            name=part,
        )

    def _score(self, part: str, trained: Trained, text: Text) -> Figures:
        """The loss at each length, of the model as it is, and with RoPE also of each scaling."""
        ways: dict[str, Callable[[int], nn.Module]] = {part: partial(longer, trained.module)}
        if part == "rope":
            for name, scaling in SCALINGS.items():
                ways[name] = partial(_scaled, trained.module, scaling, self.setting.length)
        forms = trained.forms
        return {
            "read": {
                name: [self._loss(way(times), text, times, forms) for times in self.times] for name, way in ways.items()
            }
        }

    def _loss(self, module: nn.Module, text: Text, times: int, forms: Forms) -> float:
        setting = self.setting
        longest = setting.length * max(self.times)
        batches = last_tokens(text.held(max(1, setting.windows // 4), longest), setting.length * times, setting.length)
        return validate(module, Causal(forms=forms), batches).loss

    def cells(self) -> tuple[Cell, ...]:
        longest = self.setting.length * max(self.times)
        return contest.cells(self.entrants(), self.setting, self.seed, longest=longest, attend=self.attend)

    def ways(self) -> tuple[str, ...]:
        """The rows: each part, behind RoPE its scalings."""
        return tuple(way for part in self.parts for way in (part, *(SCALINGS if part == "rope" else ())))

    def losses(self, way: str, measured: Measured) -> list[list[float]]:
        """Of each length the losses of all seeds."""
        part, found = way.partition(",")[0], []
        for place in range(self.setting.seeds):
            read: Any = measured.get(key(part, self.seed + place), {}).get("read") or {}
            found.append(read.get(way) or [])
        return [[row[at] for row in found if at < len(row) and row[at] is not None] for at in range(len(self.times))]

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        lengths = tuple(f"{self.setting.length * times:,} tokens" for times in self.times)
        rows = tuple((way, *(contest.spread(one) for one in self.losses(way, measured))) for way in self.ways())
        beyond = Table(
            title="Positions beyond the trained length",
            columns=("positions", *lengths),
            rows=rows,
            note=f"Loss of the last {self.setting.length} tokens of held-out windows, the same ones at every length; "
            f"trained at {self.setting.length}. Of several seeds mean and standard deviation.",
        )
        return beyond, contest.table(self.parts, self.setting, self.seed, measured, "Positions at the trained length")

    def page(self, measured: Measured) -> str:
        lines, ways = [], self.ways()
        for place, way in enumerate(ways):
            every = [
                (float(self.setting.length * times), one)
                for times, one in zip(self.times, self.losses(way, measured), strict=True)
                if one
            ]
            points = [(x, statistics.mean(one)) for x, one in every]
            lines.append(
                Line(name=way, points=points, place=place, spread=[(x, min(one), max(one)) for x, one in every])
            )
        ticks = tuple(float(self.setting.length * times) for times in self.times)
        across = Axis(title="tokens read", log=True, ticks=ticks, written=lambda one: f"{one:,.0f}")
        picture = plot(lines, across, Axis(title="loss of the last tokens", written=lambda one: f"{one:.2f}"))
        section = Section(
            title="Beyond the trained length",
            body=legend(ways) + contest.alone(picture),
            note="The mean over seeds; the band reaches from the lowest to the highest.",
        )
        tables = [table.section() for table in self.tables(measured)]
        sections = contest.sections(self.parts, self.setting, self.seed, measured)
        return page("Positions compared", contest.lead(self.setting, self.attend), [section, *tables, *sections])


def last_tokens(batches: Iterator[Batch], length: int, scored: int) -> Iterator[Batch]:
    """The last `length` tokens of each window, of which the last `scored` are asked."""
    for batch in batches:
        count = len(batch.lengths)
        assert batch.targets_N is not None
        ids_BT, targets_BT = (one.view(count, -1)[:, -length:].clone() for one in (batch.ids_N, batch.targets_N))
        targets_BT[:, : length - scored] = IGNORE
        yield Batch(ids_N=ids_BT.flatten(), targets_N=targets_BT.flatten(), lengths=(length,) * count)


def longer(module: nn.Module, times: int) -> nn.Module:
    """The same model, made to read `times` its length: only a learned table has to grow."""
    spec: Any = module.spec
    positions = spec.positions
    if times == 1 or positions is None:
        return module
    grown = replace(spec, length=spec.length * times, positions=replace(positions, length=spec.length * times))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        copy = grown.build()
    with torch.no_grad():
        for name, weight in copy.named_parameters():
            trained = module.get_parameter(name)
            weight[: len(trained)].copy_(trained)
    return copy.eval()


def _scaled(module: nn.Module, scaling: Callable[[int, int], Scaling], length: int, times: int) -> nn.Module:
    """The same weights under scaled rotary frequencies."""
    spec: Any = module.spec
    block = spec.blocks[0]
    mixer: GroupedQuery = block.mixer
    assert mixer.rope is not None
    turned = replace(block, mixer=replace(mixer, rope=replace(mixer.rope, scaling=scaling(times, length))))
    copy = replace(spec, blocks=(turned,) * len(spec.blocks), length=spec.length * times).build()
    copy.load_state_dict(module.state_dict())
    return copy.eval()
