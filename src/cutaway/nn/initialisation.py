"""Initialisations: the numbers that a module starts with, named after the papers that told them.

d: the model's dim; L: its layers. Every matrix is drawn, tables included; biases become 0, norms are left as they are
(they start as multiplying by one).
  Normal             GPT-1 (Radford et al. 2018, section 4.1)      N(0, 0.02)
  ScaledResidual     GPT-2 (Radford et al. 2019, section 2.3)      N(0, 0.02); residual projections / sqrt(2 L)
  TruncatedNormal    BERT (Devlin et al. 2018, its code)           N(0, 0.02), redrawn beyond two deviations
  Small              Nguyen and Salazar 2019 (arXiv 1910.05895), section 2.2:   N(0, sqrt(2 / (5 d)))
  SmallWang          GPT-NeoX (arXiv 2204.06745), section 2.1:     Small; residual projections N(0, 2 / (L sqrt(d)))
  Xavier             Glorot and Bengio 2010, equation 16; the original Transformer:   U(+-sqrt(6 / (inputs + outputs)))
  DepthScaled        Zhang et al. 2019 (arXiv 1908.11365), section 4: Xavier, layer l's divided by sqrt(l)
A residual projection is the map whose output is added to the residual: each block's `mixer.out`, `cross.out` and
`feed.down`, in a mixture that of each expert. A block counts as one layer; GPT-2's "number of residual layers" is that
of the sums, 2 L.
Departures: Xavier's tables are N(0, d^-0.5), as in the original Transformer's code, since a table has no inputs to
count; Small draws every matrix, where its paper draws q, k, v together by Xavier.
Each `apply` draws from torch's own generator, so a seed set before it gives the same numbers.
Read next: nn/block.py, nn/linear.py
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.nn.block import BlockModule
from cutaway.nn.experts.mixture import ExpertsFeed
from cutaway.nn.linear import Linear

RESIDUAL = ("mixer.out", "cross.out", "feed.down")


def residual_projections(module: nn.Module) -> list[list[Linear]]:
    """The maps whose outputs are added to the residual, block by block, for each stack of blocks: an encoder-decoder
    has two residuals.

    Raises BadInput where a block's part has none, rather than leave one out.
    """
    return [[one for block in blocks for one in _projections(block)] for blocks in _stacks(module)]


def _projections(block: BlockModule) -> list[Linear]:
    found = []
    for path in RESIDUAL:
        owner, _, name = path.partition(".")
        part = getattr(block, owner, None)
        if part is None:  # a block without cross-attention
            continue
        for one in _alike(part):
            projection = getattr(one, name, None)
            if not isinstance(projection, Linear):
                said = f"{type(one).__name__} has no linear map `{name}` whose output is added to the residual"
                raise BadInput(said, field=path)
            found.append(projection)
    return found


def _alike(part: nn.Module) -> list[nn.Module]:
    """The feeds in a mixture of experts; of any other part, itself."""
    if not isinstance(part, ExpertsFeed):
        return [part]
    return [*part.experts, *([] if part.shared is None else [part.shared])]


def _sums(blocks: list[BlockModule]) -> int:
    """How many outputs are added to the residual: one for each part, however many experts it has."""
    return sum(getattr(block, path.partition(".")[0], None) is not None for block in blocks for path in RESIDUAL)


def _stacks(module: nn.Module) -> list[list[BlockModule]]:
    """The blocks of a module, in the lists that hold them."""
    found: dict[str, list[BlockModule]] = {}
    for path, part in module.named_modules():
        if isinstance(part, BlockModule):
            found.setdefault(path.rpartition(".")[0], []).append(part)
    return list(found.values())


def _matrices(module: nn.Module) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Every matrix with the part that owns it; on the way biases become 0."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.ndim >= 2:
                yield part, parameter
            elif name == "bias":
                parameter.zero_()


def _dim(module: nn.Module) -> int:
    dim = getattr(getattr(module, "spec", None), "dim", None)
    if not isinstance(dim, int):
        raise BadInput("only a whole model has the dim that this initialisation depends on", field="module")
    return dim


def _check(deviation: float, name: str) -> None:
    if not 0.0 < deviation < math.inf:
        raise BadInput(f"must be above 0, is {deviation}", field=f"{name}.deviation")


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Every matrix from N(0, deviation)."""

    deviation: float = 0.02

    def __post_init__(self) -> None:
        _check(self.deviation, "Normal")

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        for _, matrix in _matrices(module):
            matrix.normal_(std=self.deviation)


@dataclass(frozen=True, kw_only=True)
class ScaledResidual:
    """Normal, with the residual projections' deviation divided by the root of the number of sums: what they add up to
    in the residual does not grow with depth."""

    deviation: float = 0.02

    def __post_init__(self) -> None:
        _check(self.deviation, "ScaledResidual")

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        Normal(deviation=self.deviation).apply(module)
        for blocks in _stacks(module):
            for projection in [one for block in blocks for one in _projections(block)]:
                projection.weight.normal_(std=self.deviation / math.sqrt(_sums(blocks)))


@dataclass(frozen=True, kw_only=True)
class TruncatedNormal:
    """Normal, where what falls beyond two deviations is drawn again: the spread is 0.88 of the deviation."""

    deviation: float = 0.02

    def __post_init__(self) -> None:
        _check(self.deviation, "TruncatedNormal")

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        for _, matrix in _matrices(module):
            nn.init.trunc_normal_(matrix, std=self.deviation, a=-2 * self.deviation, b=2 * self.deviation)


@dataclass(frozen=True, kw_only=True)
class Small:
    """Every matrix from N(0, sqrt(2 / (5 d))): what Xavier gives a feed four times as wide as the model."""

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        Normal(deviation=math.sqrt(2 / (5 * _dim(module)))).apply(module)


@dataclass(frozen=True, kw_only=True)
class SmallWang:
    """Small, with the residual projections from N(0, 2 / (L sqrt(d))), after Wang and Komatsuzaki's GPT-J."""

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        Small().apply(module)
        for blocks in _stacks(module):
            for projection in [one for block in blocks for one in _projections(block)]:
                projection.weight.normal_(std=2 / (len(blocks) * math.sqrt(_dim(module))))


@dataclass(frozen=True, kw_only=True)
class Xavier:
    """Maps from U(-a, a), a = sqrt(6 / (inputs + outputs)); tables from N(0, d^-0.5)."""

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        for part, matrix in _matrices(module):
            if isinstance(part, Linear):
                matrix.uniform_(-_bound(matrix), _bound(matrix))
            else:
                matrix.normal_(std=matrix.shape[-1] ** -0.5)


@dataclass(frozen=True, kw_only=True)
class DepthScaled:
    """Xavier, the bound of layer l's maps multiplied by alpha / sqrt(l), l from 1: later layers add less."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha <= 1.0:
            raise BadInput(f"must be in (0, 1], is {self.alpha}", field="DepthScaled.alpha")

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        Xavier().apply(module)
        for blocks in _stacks(module):
            for layer, block in enumerate(blocks, start=1):
                for part, matrix in _matrices(block):
                    if isinstance(part, Linear):
                        matrix.mul_(self.alpha / math.sqrt(layer))


def _bound(matrix: Tensor) -> float:
    outputs, inputs = matrix.shape
    return math.sqrt(6 / (inputs + outputs))


Initialisation = Normal | ScaledResidual | TruncatedNormal | Small | SmallWang | Xavier | DepthScaled
