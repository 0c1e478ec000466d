"""Where a token stands: a vector added to its embedding (learned, sinusoidal), or a turn of queries and keys (rotary).

Learned: Gehring et al. 2017 (arXiv 1705.03122), GPT-1 and GPT-2. Sinusoidal: Vaswani et al. 2017 (arXiv 1706.03762),
section 3.5:   PE(p, 2i) = sin(p / 10000^(2i / D)),   PE(p, 2i + 1) = cos(p / 10000^(2i / D)); their own program, and
Marian after it, lay all sines before all cosines. Rotary: see ops/rope.py.
N tokens, flat · D model dim · W rotary width.   Read next: nn/rope_scaling.py, nn/attention/grouped.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.nn.cost import Cost
from cutaway.nn.rope_scaling import DynamicNtk, Scaling
from cutaway.ops import rope


def _check_length(length: int, name: str) -> None:
    if length < 1:
        raise BadInput(f"must be at least 1, is {length}", field=f"{name}.length")


@dataclass(frozen=True, kw_only=True)
class Learned:
    """One learned vector for each of `length` positions; there are none beyond."""

    length: int

    def __post_init__(self) -> None:
        _check_length(self.length, "Learned")

    def check(self, dim: int, length: int) -> None:
        """Raises BadInput where a model's texts are longer than there are vectors."""
        if length > self.length:
            raise BadInput(f"{self.length} vectors end before token {length}", field="Learned.length")

    def build(self, dim: int) -> LearnedPositions:
        return LearnedPositions(dim, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        return Cost(parameters=self.length * dim)


class LearnedPositions(nn.Module):
    """positions (N,) -> vectors (N, D). Starts normal with deviation 0.02 (GPT-2, section 2.3)."""

    def __init__(self, dim: int, spec: Learned):
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.length, dim).normal_(std=0.02))

    def forward(self, positions_N: Tensor) -> Tensor:
        return F.embedding(positions_N, self.weight)


@dataclass(frozen=True, kw_only=True)
class Sinusoidal:
    """Fixed waves, computed when asked for. `length` is what a model declares as its limit; the waves have none.
    `interleaved`: each sine stands beside its cosine, as the paper says; else all sines come first (Marian)."""

    length: int
    interleaved: bool = True

    def __post_init__(self) -> None:
        _check_length(self.length, "Sinusoidal")

    def check(self, dim: int, length: int) -> None:
        """Raises BadInput where a model's dims do not come in pairs."""
        if dim < 2 or dim % 2:
            raise BadInput(f"sine and cosine come in pairs, the dim {dim} is odd or below 2", field="Sinusoidal.dim")

    def build(self, dim: int) -> SinusoidalPositions:
        return SinusoidalPositions(dim, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        return Cost()


class SinusoidalPositions(nn.Module):
    """positions (N,) -> vectors (N, D), float32 (float64 for float64 positions)."""

    def __init__(self, dim: int, spec: Sinusoidal):
        super().__init__()
        spec.check(dim, spec.length)
        self.dim, self.spec = dim, spec

    def forward(self, positions_N: Tensor) -> Tensor:
        wide = torch.promote_types(positions_N.dtype, torch.float32)
        exponents = torch.arange(0, self.dim, 2, device=positions_N.device).to(wide) / self.dim
        angles = positions_N.to(wide)[:, None] / 10000.0**exponents
        waves = torch.stack((angles.sin(), angles.cos()), -1)
        return (waves if self.spec.interleaved else waves.transpose(-1, -2)).flatten(-2)


class Passing(Protocol):
    """What rotary positions ask of a `Context`."""

    @property
    def positions_N(self) -> Tensor: ...
    @property
    def lengths(self) -> tuple[int, ...]: ...
    @property
    def prompts(self) -> tuple[int, ...] | None: ...
    @property
    def cache(self) -> object | None: ...


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Turns the first `width` numbers of each head; `theta` is the base of the frequencies."""

    width: int
    theta: float = 10000.0
    interleaved: bool = False
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2:
            raise BadInput(f"must be even and at least 2, is {self.width}", field="Rope.width")
        if not 1.0 < self.theta < math.inf:
            raise BadInput(f"must be above 1, is {self.theta}", field="Rope.theta")
        if isinstance(self.scaling, DynamicNtk) and self.width == 2:
            raise BadInput("dynamic NTK scaling needs at least two pairs, a width of 4", field="Rope.width")

    def frequencies(self, device: torch.device | str | None = None, prompt: int | None = None) -> Tensor:
        """Radians per position of each pair, (W / 2,), float32. `prompt` matters to dynamic NTK alone."""
        if self.scaling is None:
            return rope.frequencies(self.theta, self.width, device)
        return self.scaling.frequencies(self.theta, self.width, device, prompt)

    def tables(self, context: Passing, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """(cos, signed sin) of the pass's tokens for `forms.rotate`, each (N, 1, W). Make them once per pass."""
        device = context.positions_N.device
        if isinstance(self.scaling, DynamicNtk):
            frequencies = self._by_sequence(_prompts(context), context.lengths, device)
        else:
            frequencies = self.frequencies(device)
        return rope.tables(
            frequencies,
            context.positions_N,
            dtype=dtype,
            amplitude=1.0 if self.scaling is None else self.scaling.amplitude,
            interleaved=self.interleaved,
        )

    def _by_sequence(self, prompts: Sequence[int], lengths: Sequence[int], device: torch.device) -> Tensor:
        """The frequencies of each token, (N, 1, W / 2), by its own sequence's prompt."""
        rows = [
            self.frequencies(device, prompt).expand(length, 1, -1)
            for prompt, length in zip(prompts, lengths, strict=True)
        ]
        return torch.cat(rows) if rows else self.frequencies(device).expand(0, 1, -1)


def _prompts(context: Passing) -> tuple[int, ...]:
    """The prompt's length of each sequence; without a cache, all that is there is the prompt."""
    if context.prompts is not None:
        return context.prompts
    if context.cache is not None:
        raise BadInput("dynamic NTK with a cache has to know each prompt's length", field="Context.prompts")
    return context.lengths
