"""Mixtures of experts compared: routers, with and without what keeps them balanced, beside a dense feed of equal work.

Switch (arXiv 2101.03961), section 2; Wang et al. 2024 (arXiv 2408.15664). A name is a router and a way to balance it:
  softmax   softmax, then top-k (Switch, Qwen)      top-k   top-k, then softmax (Mixtral)      sigmoid   (DeepSeek-V3)
  +loss     the load-balance loss                  +bias   a bias moved between steps, outside the gradient (sigmoid)
All use as many weights for one token as the dense model has, within 1%; what a mixture has in idle experts comes on
top. Measured on held-out text: each layer's load; MaxVio, by how much the busiest expert exceeds an even share; the
entropy of a token's scores, as a share of the largest possible; experts with less than a tenth of an even share.
E expert · N tokens, flat.   Read next: lab/compare/contest.py, nn/experts/balance.py, lab/cards/moe_balance.py
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from html import escape
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.lab.compare import contest
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table
from cutaway.lab.compare.contest import Entrant, key
from cutaway.lab.compare.training import Adapt, Adapted, Setting, Text, Trained, matched, parameters
from cutaway.lab.page import Section, page
from cutaway.models.decoder import Decoder
from cutaway.nn.context import Context
from cutaway.nn.experts.balance import max_violation
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import Router, SigmoidTopK, SoftmaxTopK, TopKSoftmax
from cutaway.nn.feedforward import Gated
from cutaway.train.loss import Objective
from cutaway.train.loss_free import LossFree
from cutaway.train.objectives.balanced import Balanced, reported

PARTS = ("dense", "softmax", "softmax+loss", "top-k+loss", "sigmoid", "sigmoid+bias")
KNOWN = ("dense", *(f"{router}{way}" for router in ("softmax", "top-k", "sigmoid") for way in ("", "+loss")))
ALL = (*KNOWN, "sigmoid+bias")
STARVED = 0.1  # of an even share
WEIGHT, NUDGE = 0.02, 0.01  # of the load-balance loss; by how much a bias moves at each step


@dataclass(frozen=True, kw_only=True)
class ExpertComparison:
    """`parts`: names of `ALL`. `count` experts, of which each token uses `top_k`. `attend`: the form of attention
    that runs (ops/choice.py)."""

    parts: tuple[str, ...] = PARTS
    count: int = 8
    top_k: int = 2
    setting: Setting = field(default_factory=Setting)
    seed: int = 0
    attend: str | None = None

    def __post_init__(self) -> None:
        contest.checked(self.parts, ALL, self.seed, self.attend)
        if not 1 <= self.top_k <= self.count:
            raise BadInput(f"{self.top_k} of {self.count} experts cannot be chosen", field="top_k")

    def _model(self, part: str, vocab: int) -> Decoder:
        setting, target = self.setting, parameters(self.setting.usual(vocab))
        if part == "dense":
            return setting.usual(vocab)
        router = self._router(part.partition("+")[0])

        def make(hidden: int) -> Decoder:
            feed = Experts(count=self.count, expert=Gated(hidden=hidden), router=router)
            return setting.decoder(vocab, setting.mixer(), feed)

        return matched(make, target, name=part, count=active)

    def _router(self, name: str) -> Router:
        if name == "softmax":
            return SoftmaxTopK(top_k=self.top_k)  # renormalised it would be top-k, then softmax
        return TopKSoftmax(top_k=self.top_k) if name == "top-k" else SigmoidTopK(top_k=self.top_k)

    def cells(self) -> tuple[Cell, ...]:
        entrants = [
            Entrant(
                name=part,
                make=partial(self._model, part),
                adapt=ADAPTED[part.partition("+")[2]],
                score=_score,
                slow=1.0 if part == "dense" else 1.3,
            )
            for part in self.parts
        ]
        return contest.cells(entrants, self.setting, self.seed, attend=self.attend)

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        def over(part: str, figure: str, digits: int = 2) -> str:
            return contest.spread(contest.found(measured, part, self.setting, self.seed, figure), digits)

        used = {part: contest.found(measured, part, self.setting, self.seed, "active") for part in self.parts}
        rows = tuple(
            (
                part,
                contest.counted(used[part][0]) if used[part] else "–",
                over(part, "loss", 3),
                *(over(part, figure) for figure in ("max_violation", "entropy")),
                over(part, "starved", 1),
            )
            for part in self.parts
        )
        routed = Table(
            title="Routing and balance",
            columns=("part", "active", "validation loss", "MaxVio", "entropy", "starved"),
            rows=rows,
            note=f"{self.count} experts a layer, {self.top_k} for each token. Active: weights that one token uses. "
            "MaxVio: by how much the busiest expert exceeds an even share, 0 is even. Entropy of a token's scores: "
            "1 is undecided. Starved: experts with less than a tenth of an even share, over all layers. Means "
            "over layers, and over seeds with their standard deviation.",
        )
        return (routed,)

    def page(self, measured: Measured) -> str:
        (routed,) = self.tables(measured)
        sections = contest.sections(self.parts, self.setting, self.seed, measured)
        loads = []
        for part in self.parts:
            shares: Any = measured.get(key(part, self.seed), {}).get("shares")
            if shares:
                loads.append(f'<div class="panel"><p class="question">{escape(part)}</p>{load_grid(shares)}</div>')
        seen = Section(
            title="Who is used",
            body="".join(loads),
            note="First seed. A row for each layer, a cell for each expert, the fullest first; its share of all "
            "choices, in per cent. The fuller the colour, the more it is used.",
        )
        lead = contest.lead(self.setting, self.attend)
        return page("Mixtures of experts compared", lead, [routed.section(), *sections, seen])


def _alone(module: nn.Module, optimiser: Any, objective: Objective) -> Adapted:
    return optimiser, objective


def _by_loss(module: nn.Module, optimiser: Any, objective: Objective) -> Adapted:
    return optimiser, Balanced(objective=objective, weight=WEIGHT)


def _by_bias(module: nn.Module, optimiser: Any, objective: Objective) -> Adapted:
    around = LossFree(optimiser, module, rate=NUDGE)
    return around, around.watch(objective)


ADAPTED: Mapping[str, Adapt] = MappingProxyType({"": _alone, "loss": _by_loss, "bias": _by_bias})


def active(model: Decoder) -> int:
    """The weights that one token uses."""
    idle = 0
    for block in model.blocks:
        if isinstance(block.feed, Experts):
            idle += block.feed.cost(model.dim, 1, 1).parameters - block.feed.active(model.dim)
    return parameters(model) - idle


@torch.no_grad()
def _score(trained: Trained, text: Text) -> Figures:
    """Loads and scores on held-out text, by layer; nothing of a dense model but its weights."""
    module, spec = trained.module, trained.module.spec
    assert isinstance(spec, Decoder)
    want = frozenset({"experts"})
    figures: Figures = {"active": active(spec)}
    loads: dict[str, Any] = {}
    entropies: list[float] = []
    for batch in text.held(64, spec.length):
        _, report = module(batch.ids_N, Context.of(batch.lengths, forms=trained.forms, want=want))
        for layer, load_E in reported(report, "load_E").items():
            loads[layer] = loads[layer] + load_E if layer in loads else load_E
        entropies += [float(one.mean()) / math.log(one_count) for one, one_count in _entropies(report, spec)]
    if not loads:
        return figures
    starved = sum(int((load_E < STARVED * load_E.mean()).sum()) for load_E in loads.values())
    return figures | {
        "max_violation": statistics.mean(float(max_violation(load_E)) for load_E in loads.values()),
        "entropy": statistics.mean(entropies),
        "starved": starved,
        "shares": [(load_E / load_E.sum()).tolist() for load_E in loads.values()],
    }


def _entropies(report: dict[str, Any], spec: Decoder) -> list[tuple[Any, int]]:
    """Each mixture's entropies, with how many experts it has."""
    counts = {
        f"blocks.{layer}.feed": max(
            block.feed.count, 2
        )  # of one expert alone the entropy is 0, whatever it is a share of
        for layer, block in enumerate(spec.blocks)
        if isinstance(block.feed, Experts)
    }
    return [(one, counts[layer]) for layer, one in reported(report, "entropy_N").items()]


def load_grid(shares: list[list[float]]) -> str:
    """A row for each layer, its experts by their shares."""
    cell, row, left = 56, 22, 60
    most, parts = max(max(line) for line in shares), []
    for layer, line in enumerate(shares):
        parts.append(f'<text class="faint" x="0" y="{row * layer + 15}">layer {layer}</text>')
        for place, share in enumerate(sorted(line, reverse=True)):
            x, y = left + cell * place, row * layer
            size = f'x="{x}" y="{y + 1}" width="{cell - 2}" height="{row - 2}" rx="2"'
            parts.append(f'<rect class="cell" {size} fill-opacity="{0.05 + 0.85 * share / most:.2f}"/>')
            parts.append(f'<text x="{x + 6}" y="{y + 15}">{100 * share:.1f}</text>')
    width, height = left + cell * max(map(len, shares)), row * len(shares) + 2
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg role="img" aria-label="load of each expert" {size}>{"".join(parts)}</svg>'
