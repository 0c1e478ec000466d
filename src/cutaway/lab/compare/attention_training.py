"""Attention compared by what is learned with it: loss at equal weights and tokens, and two probes of looking back.

The parts are those of the layer that is timed, shrunk: heads, widths and ranks by as much as the model is smaller,
windows and blocks, which count tokens, to an eighth for text and to a 32nd for the probes, whose rows are short.
Departure: a mixture of branches that needs three blocks keeps three, of four tokens at least.
Read next: lab/compare/attention.py, lab/compare/contest.py, lab/compare/probes.py
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from cutaway.lab.compare import contest
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table
from cutaway.lab.compare.contest import Entrant
from cutaway.lab.compare.mixers import Shape, mixer
from cutaway.lab.compare.probes import QUARTERS, Passkey, Probe, Probing, Recall, probed
from cutaway.lab.compare.training import Setting, matched, parameters
from cutaway.lab.page import Section
from cutaway.lab.plot import Axis, Line, beside, legend, plot
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.block_sparse import BlockSparse, mask
from cutaway.nn.attention.gated_delta import GatedDelta
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.block import Mixer
from cutaway.nn.feedforward import Gated
from cutaway.nn.positions import Rope
from cutaway.ops.forms import Forms, attended

TEXT, PROBES = 8, 32  # by how much windows and blocks are shorter than those that are timed
SLOW: Mapping[str, float] = MappingProxyType({"nsa": 3.0, "block-sparse": 4.0, "delta": 3.0})
PROBE_SECONDS = 6.0  # of one that takes about half its steps


@dataclass(frozen=True, kw_only=True)
class AttentionTraining:
    """`setting`: of the training on text; `probing`: of the probes."""

    setting: Setting = field(default_factory=Setting)
    probing: Probing = field(default_factory=Probing)
    passkey: Passkey = field(default_factory=Passkey)
    recall: Recall = field(default_factory=Recall)

    def probes(self) -> dict[str, Probe]:
        return {"passkey": self.passkey, "recall": self.recall}

    def check(self, parts: Sequence[str], full: Shape) -> None:
        """Raises BadInput for a part that cannot be made so small."""
        for part in parts:
            self._model(part, full, contest.GUESS)
            for probe in self.probes().values():
                self._probing_mixer(part, full, probe)

    def cells(self, parts: Sequence[str], full: Shape, seed: int, attend: str | None = None) -> tuple[Cell, ...]:
        """`attend`: the form of attention that runs."""
        forms = attended(attend)
        entrants = [Entrant(name=part, make=partial(self._model, part, full), slow=slow(part)) for part in parts]
        probes = [
            Cell(
                key=key(part, name, seed + place),
                about=f"{name} with {part}, {place + 1} of {self.probing.seeds}",
                seconds=slow(part) * PROBE_SECONDS * self.probing.steps / 500,
                measure=partial(self._probe, part, full, probe, seed + place, forms),
            )
            for part in parts
            for name, probe in self.probes().items()
            for place in range(self.probing.seeds)
        ]
        return (*contest.cells(entrants, self.setting, seed, attend=attend), *probes)

    def _model(self, part: str, full: Shape, vocab: int) -> Decoder:
        setting = self.setting
        value = shrunk(mixer(part, full), full, setting.heads, setting.head_dim, TEXT, setting.length)
        return matched(
            lambda hidden: setting.decoder(vocab, value, Gated(hidden=hidden)),
            parameters(setting.usual(vocab)),
            name=part,
        )

    def _probing_mixer(self, part: str, full: Shape, probe: Probe) -> Mixer:
        heads = self.probing.heads
        return shrunk(mixer(part, full), full, heads, self.probing.dim // heads, PROBES, probe.length)

    def _probe(self, part: str, full: Shape, probe: Probe, seed: int, forms: Forms) -> Figures:
        found = probed(self._probing_mixer(part, full, probe), probe, self.probing, seed, forms)
        return {"accuracy": found.accuracy, "quarters": found.quarters, "steps": found.steps}

    def accuracies(self, part: str, probe: str, seed: int, measured: Measured) -> list[float]:
        cells = (measured.get(key(part, probe, seed + place), {}) for place in range(self.probing.seeds))
        return [float(one) for one in (cell.get("accuracy") for cell in cells) if isinstance(one, (int, float))]

    def tables(self, parts: Sequence[str], full: Shape, seed: int, measured: Measured) -> tuple[Table, ...]:
        losses = contest.table(parts, self.setting, seed, measured, "Attention trained on text")
        rows = []
        for part in parts:
            value = self._probing_mixer(part, full, self.passkey)
            found = [self.accuracies(part, name, seed, measured) for name in self.probes()]
            rows.append((part, told(value), *(" ".join(f"{one:.0%}" for one in every) or "–" for every in found)))
        asked = Table(
            title="Attention probed",
            columns=("part", "as it is here", "passkey", "recall"),
            rows=tuple(rows),
            note=f"Right answers of models of {self.probing.layers} layers trained on nothing else, a figure for each "
            f"seed. Passkey: {self.passkey.digits} digits somewhere in {self.passkey.length} tokens, by chance 10%. "
            f"Recall: {self.recall.pairs} pairs of names and values, by chance {1 / self.recall.pairs:.0%}. Windows "
            f"and blocks are a {PROBES}th of those timed, an {TEXT}th in training.",
            words=2,
        )
        return losses, asked

    def sections(
        self, parts: Sequence[str], full: Shape, seed: int, measured: Measured, attend: str | None = None
    ) -> list[Section]:
        pictures = []
        for name, probe in self.probes().items():
            lines = []
            for place, part in enumerate(parts):
                points = self._by_distance(part, name, probe, seed, measured)
                lines.append(Line(name=part, points=points, place=place))
            middles = tuple(probe.length * (at + 0.5) / QUARTERS for at in range(QUARTERS))
            across = Axis(title="tokens back", ticks=middles, written=lambda one: f"{one:.0f}")
            pictures.append(plot(lines, across, Axis(title=f"{name}: right answers", written=lambda one: f"{one:.0%}")))
        losses, asked = self.tables(parts, full, seed, measured)
        table = asked.section()
        body = legend(parts) + beside(pictures) + table.body
        lead = contest.lead(self.setting, attend)
        trained = losses.section()
        return [
            Section(title=trained.title, body=trained.body, note=" ".join([*lead, trained.note])),
            *contest.sections(parts, self.setting, seed, measured),
            Section(title=table.title, body=body, note=f"By how far back the answer stands. {table.note}"),
        ]

    def _by_distance(
        self, part: str, name: str, probe: Probe, seed: int, measured: Measured
    ) -> list[tuple[float, float]]:
        """Accuracy over seeds, by quarters of the length."""
        rows: list[Any] = [
            measured.get(key(part, name, seed + place), {}).get("quarters") or () for place in range(self.probing.seeds)
        ]
        points = []
        for at in range(QUARTERS):
            every = [row[at] for row in rows if at < len(row) and row[at] is not None]
            if every:
                points.append((probe.length * (at + 0.5) / QUARTERS, statistics.mean(every)))
        return points


def key(part: str, probe: str, seed: int) -> str:
    """The name of a probe's cell."""
    return f"{part}, {probe}, seed {seed}"


def slow(part: str) -> float:
    """How many times as long a training takes as its arithmetic says."""
    return SLOW.get(part.partition(":")[0], 1.0)


def shrunk(value: object, full: Shape, heads: int, head_dim: int, times: int, length: int) -> Mixer:
    """The same attention for a smaller model, tokens counted in `times`ths."""

    def fewer(count: int, least: int = 1) -> int:
        return max(least, count // times)

    if isinstance(value, GroupedQuery):
        return replace(
            value,
            heads=heads,
            kv_heads=groups(value.kv_heads, value.heads, heads),
            head_dim=head_dim,
            rope=None if value.rope is None else Rope(width=head_dim),
            window=None if value.window is None else fewer(value.window, 2),
            sinks=min(value.sinks, fewer(value.window or 1, 2)),
        )
    if isinstance(value, Latent):
        rank = max(2, value.rank * heads * head_dim // full.dim)
        return replace(value, heads=heads, rank=rank, head_dim=head_dim, rope=Rope(width=max(2, head_dim // 4 * 2)))
    if isinstance(value, NativeSparse):
        return replace(
            value,
            heads=heads,
            kv_heads=groups(value.kv_heads, value.heads, heads),
            head_dim=head_dim,
            rope=Rope(width=head_dim),
            block=fewer(value.block, 4),
            stride=fewer(value.stride, 2),
            select=fewer(value.select, 4),
            top_k=max(3, value.top_k // 4),
            window=fewer(value.window, 4),
        )
    if isinstance(value, GatedDelta):
        keys = groups(value.key_heads, value.heads, heads)
        return replace(value, heads=heads, key_heads=keys, head_dim=head_dim, value_dim=head_dim)
    assert isinstance(value, BlockSparse)
    block = fewer(value.block, 2)
    seen = mask(-(-length // block), near=4, first=1)
    return replace(
        value, heads=heads, kv_heads=heads, head_dim=head_dim, block=block, seen=seen, rope=Rope(width=head_dim)
    )


def groups(kv_heads: int, of: int, heads: int) -> int:
    """As many of fewer heads, a number that divides them."""
    wanted = max(1, kv_heads * heads // of)
    return next(count for count in range(wanted, 0, -1) if heads % count == 0)


def told(value: object) -> str:
    """What a shrunk part is, in a few words."""
    if isinstance(value, GroupedQuery):
        window = "" if value.window is None else f", window {value.window}"
        return f"{value.heads} heads, {value.kv_heads} of keys{window}"
    if isinstance(value, Latent):
        return f"{value.heads} heads, rank {value.rank}"
    if isinstance(value, NativeSparse):
        return f"{value.top_k} blocks of {value.select}, window {value.window}"
    if isinstance(value, GatedDelta):
        return f"{value.heads} states of {value.head_dim} x {value.value_width}"
    return f"blocks of {value.block}" if isinstance(value, BlockSparse) else type(value).__name__
