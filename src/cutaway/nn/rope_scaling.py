"""Rotary scaling: frequencies changed so that a model reads further than it was trained for.

Each value answers `frequencies(theta, width, device, prompt)`, (W / 2,) radians per position, and `amplitude`, the
number that cos and sin are multiplied by. All agree with transformers' ROPE_INIT_FUNCTIONS.
`original_length` is the length that the model was trained for.   W rotary width.   Read next: nn/positions.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.rope import frequencies

Device = torch.device | str | None


def _require(holds: bool, field: str, message: str) -> None:
    if not holds:
        raise BadInput(message, field=field)


def _check_stretch(scaling: LinearScaling | DynamicNtk | Llama3Scaling | Yarn) -> None:
    name = type(scaling).__name__
    _require(1.0 <= scaling.factor < math.inf, f"{name}.factor", f"must be at least 1, is {scaling.factor}")
    length = getattr(scaling, "original_length", 1)
    _require(length >= 1, f"{name}.original_length", f"must be at least 1, is {length}")


@dataclass(frozen=True, kw_only=True)
class LinearScaling:
    """f / factor: positions squeezed evenly (Chen et al. 2023, arXiv 2306.15595)."""

    factor: float

    def __post_init__(self) -> None:
        _check_stretch(self)

    @property
    def amplitude(self) -> float:
        return 1.0

    def frequencies(self, theta: float, width: int, device: Device = None, prompt: int | None = None) -> Tensor:
        return frequencies(theta, width, device) / self.factor


@dataclass(frozen=True, kw_only=True)
class DynamicNtk:
    """A larger base once the prompt is longer than the training (bloc97 and emozilla 2023; arXiv 2309.00071, app. B.1).

    theta' = theta * (factor * n / original_length - factor + 1)^(W / (W - 2)),   n = max(prompt, original_length)
    The base is fixed at the prompt's length, so that keys in the cache and new queries turn at one speed. Hence it is
    exempt from cached = uncached: a full pass over prompt and answer takes both for the prompt, a longer n and another
    base. Told one and the same `prompt`, both agree. (transformers changes the base at every step, and keys that are
    already in the cache keep the old one.)
    """

    factor: float
    original_length: int

    def __post_init__(self) -> None:
        _check_stretch(self)

    @property
    def amplitude(self) -> float:
        return 1.0

    def frequencies(self, theta: float, width: int, device: Device = None, prompt: int | None = None) -> Tensor:
        length = max(prompt or 0, self.original_length)
        stretch = self.factor * length / self.original_length - (self.factor - 1)
        return frequencies(theta * stretch ** (width / (width - 2)), width, device)


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Slow pairs are squeezed, fast ones are kept, those between are mixed (Llama 3.1's rope_scaling "llama3").

    A wavelength is 2 pi / f. Shorter than original_length / high_frequency_factor: f. Longer than
    original_length / low_frequency_factor: f / factor. Between: mixed by where original_length / wavelength lies.
    """

    factor: float
    original_length: int
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0

    def __post_init__(self) -> None:
        _check_stretch(self)
        low, high = self.low_frequency_factor, self.high_frequency_factor
        _require(
            0.0 < low < high < math.inf,
            "Llama3Scaling.high_frequency_factor",
            f"must be above low_frequency_factor, which must be above 0: {high} and {low}",
        )

    @property
    def amplitude(self) -> float:
        return 1.0

    def frequencies(self, theta: float, width: int, device: Device = None, prompt: int | None = None) -> Tensor:
        plain_W = frequencies(theta, width, device)
        turns_W = self.original_length / (2 * math.pi / plain_W)  # full turns within the training length
        span = self.high_frequency_factor - self.low_frequency_factor
        kept_W = ((turns_W - self.low_frequency_factor) / span).clamp(0.0, 1.0)  # share of the plain frequency
        return (1 - kept_W) * plain_W / self.factor + kept_W * plain_W


@dataclass(frozen=True, kw_only=True)
class Yarn:
    """Like Llama 3's, mixed by the pair's index instead, and cos and sin are made larger (arXiv 2309.00071, section 3).

    Pairs that turn more than `beta_fast` times within original_length keep their frequency, those that turn less than
    `beta_slow` times are squeezed by `factor`, with a linear ramp between; `truncate` rounds its ends outwards.
    Amplitude: `attention_factor`; else m(mscale) / m(mscale_all_dim) if both are given (DeepSeek-V2); else m(1), with
    m(s) = 0.1 s ln(factor) + 1.
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        _check_stretch(self)
        _require(
            0.0 < self.beta_slow < self.beta_fast < math.inf,
            "Yarn.beta_fast",
            f"must be above beta_slow, which must be above 0: {self.beta_fast} and {self.beta_slow}",
        )
        given = self.attention_factor
        _require(given is None or given > 0.0, "Yarn.attention_factor", f"must be above 0, is {given}")
        for name in ("mscale", "mscale_all_dim"):
            scale = getattr(self, name)
            _require(scale is None or 0.0 <= scale < math.inf, f"Yarn.{name}", f"must be at least 0, is {scale}")

    @property
    def amplitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._magnitude(self.mscale) / self._magnitude(self.mscale_all_dim)
        return self._magnitude(1.0)

    @property
    def sharpness(self) -> float:
        """What DeepSeek's attention multiplies its scores by: m(mscale_all_dim)^2, 1 where that is not given."""
        return self._magnitude(self.mscale_all_dim or 0.0) ** 2

    def _magnitude(self, scale: float) -> float:
        return 0.1 * scale * math.log(self.factor) + 1.0

    def frequencies(self, theta: float, width: int, device: Device = None, prompt: int | None = None) -> Tensor:
        plain_W = frequencies(theta, width, device)
        first, last = self._ramp(theta, width)
        index_W = torch.arange(width // 2, device=device, dtype=torch.float32)
        squeezed_W = ((index_W - first) / (last - first)).clamp(0.0, 1.0)  # share of the squeezed frequency
        return plain_W / self.factor * squeezed_W + plain_W * (1 - squeezed_W)

    def _ramp(self, theta: float, width: int) -> tuple[float, float]:
        """The pair indices where the ramp starts and ends."""
        first, last = (
            width * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(theta))
            for turns in (self.beta_fast, self.beta_slow)
        )
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        # A ramp of no length is a step. (The ends may also cross, as transformers lets them, in very narrow heads.)
        return first, last + 0.001 if first == last else last


Scaling = LinearScaling | Llama3Scaling | Yarn | DynamicNtk
