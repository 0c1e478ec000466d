"""A block: a mixer, which lets tokens see each other, and a feed, which works on each alone, both added to a residual.

Between them may stand a cross part, which reads an encoder's output (arXiv 1706.03762, section 3.1).

A step of decoding is bound by what stands between its products. What a module holds, it finds only after it has looked
everywhere else; so parts that run in every layer of every token look for their own where these are, in `_modules`:
about a twentieth of a token of SmolLM2-135M.

Where the norms stand tells the families apart; x is the residual:
  pre-norm  (GPT-2, Llama; arXiv 2002.04745)   x + part(before(x))
  post-norm (Transformer, GPT-1, BERT)         outside(x + part(x))
  sandwich  (Gemma 2 and 3; arXiv 2105.13290)  x + after(part(before(x)))
N tokens, flat · D model dim.   Read next: nn/attention/grouped.py, nn/feedforward.py
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.bounds import fractions
from cutaway.base.errors import BadInput
from cutaway.nn.attention.cross import Cross
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.stream import Stream

Norm = RMSNorm | LayerNorm


class Part(Protocol):
    """The value of a mixer or a feed."""

    def build(self, dim: int) -> nn.Module: ...
    def cost(self, dim: int, tokens: int, length: int) -> Cost: ...
    def streams(self, dim: int) -> tuple[Stream, ...]: ...


class Mixer(Part, Protocol):
    """The value of a mixer, which also knows where it cannot serve."""

    def check(self, length: int | None, *, causal: bool) -> None:
        """Raises BadInput where a model whose longest text has so many tokens (None: nothing bounds it), and which
        reads from left to right or both ways, cannot use what the value says."""
        ...


@dataclass(frozen=True, kw_only=True)
class Block:
    """`before`, `after`, `outside`: the norms around each part (see above). `dropout` acts on the parts' outputs."""

    mixer: Mixer
    feed: Part
    cross: Cross | None = None
    before: Norm | None = None
    after: Norm | None = None
    outside: Norm | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        fractions(self, "dropout")

    def build(self, dim: int) -> BlockModule:
        return BlockModule(dim, self)

    def check(self, length: int | None, *, causal: bool, across: bool) -> None:
        """Raises BadInput where a model of that length, which reads so and has something to look across at or has not,
        cannot use the block."""
        self.mixer.check(length, causal=causal)
        if self.cross is not None and not across:
            raise BadInput("looks across, and there is nothing there", field="Block.cross")

    def streams(self, dim: int) -> tuple[Stream, ...]:
        cross = self.cross.streams(dim) if self.cross is not None else ()
        return self.mixer.streams(dim) + cross + self.feed.streams(dim)

    def cost(self, dim: int, tokens: int, length: int, source: int | None = None) -> Cost:
        """`source`: tokens of what the cross part reads, as many as `length` if None."""
        parts = [self.mixer.cost(dim, tokens, length), self.feed.cost(dim, tokens, length)]
        parts += [self.cross.cost(dim, tokens, length, source)] if self.cross is not None else []
        norms = [norm.cost(dim, tokens, length) for norm in (self.before, self.after, self.outside) if norm]
        return sum([*parts, *(norm * len(parts) for norm in norms)], Cost())


class BlockModule(nn.Module):
    """x (N, D) -> (N, D); reports its parts' reports under `mixer.`, `cross.` and `feed.`."""

    def __init__(self, dim: int, spec: Block):
        super().__init__()
        self.spec = spec
        self.mixer_norms = Norms(dim, spec)
        self.mixer = spec.mixer.build(dim)
        if spec.cross is not None:
            self.cross_norms = Norms(dim, spec)
            self.cross = spec.cross.build(dim)
        self.feed_norms = Norms(dim, spec)
        self.feed = spec.feed.build(dim)

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        own: Any = self._modules
        x_ND, mixer_report = self.added(x_ND, own["mixer"], own["mixer_norms"], context)
        cross_report: dict[str, Any] = {}
        if self.spec.cross is not None:
            x_ND, cross_report = self.added(x_ND, own["cross"], own["cross_norms"], context)
        x_ND, feed_report = self.added(x_ND, own["feed"], own["feed_norms"], context)
        if not (mixer_report or cross_report or feed_report):
            return x_ND, {}
        named = {"mixer": mixer_report, "cross": cross_report, "feed": feed_report}
        return x_ND, {f"{part}.{name}": value for part, report in named.items() for name, value in report.items()}

    def added(self, x_ND: Tensor, part: nn.Module, norms: Norms, context: Context) -> tuple[Tensor, dict[str, Any]]:
        """outside(x + dropout(after(part(before(x)))))."""
        around: dict[str, Any] = norms._modules
        before, after, outside = around.get("before"), around.get("after"), around.get("outside")
        y_ND = x_ND if before is None else before(x_ND, context)
        if context.narrow is not None:
            y_ND = y_ND.to(context.narrow)  # the sum below widens it again
        y_ND, report = part(y_ND, context)
        if after is not None:
            y_ND = after(y_ND, context)
        if self.spec.dropout and self.training:
            y_ND = F.dropout(y_ND, self.spec.dropout)
        x_ND = x_ND + y_ND
        return (x_ND if outside is None else outside(x_ND, context)), report


def through(blocks: Iterable[nn.Module], x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
    """The residual (N, D) behind the last of the blocks, and the reports of all of them under `blocks.0.`, `blocks.1.`
    and so on; among these `residual_ND` behind each where "residual" is wanted."""
    reports: dict[str, Any] = {}
    for layer, block in enumerate(blocks):
        x_ND, report = block(x_ND, context.at(layer))
        if report:
            reports |= {f"blocks.{layer}.{name}": value for name, value in report.items()}
        if "residual" in context.want:
            reports[f"blocks.{layer}.residual_ND"] = x_ND
    return x_ND, reports


class Norms(nn.Module):
    """The norms around one part of a block, those that the block's value has."""

    def __init__(self, dim: int, spec: Block):
        super().__init__()
        self.before = spec.before.build(dim) if spec.before else None
        self.after = spec.after.build(dim) if spec.after else None
        self.outside = spec.outside.build(dim) if spec.outside else None
