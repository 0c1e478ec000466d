"""Checks of positions that are added, and of rotary frequencies under every scaling.

N tokens, flat · D model dim · W rotary width.   Read next: nn/positions.py, nn/rope_scaling.py
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.lab.checks.parity import compare, expect, expect_close
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import DynamicNtk, LinearScaling, Llama3Scaling, Yarn

Frequencies = Callable[[Rope, int | None], Tensor]  # a rope and its prompt's length -> (W / 2,)


def sinusoidal_oracle(positions: np.ndarray, dim: int, interleaved: bool = True) -> np.ndarray:
    y = np.empty((len(positions), dim))
    for n, position in enumerate(positions):
        for index in range(0, dim, 2):
            angle = float(position) / 10000.0 ** (index / dim)
            sine, cosine = (index, index + 1) if interleaved else (index // 2, (dim + index) // 2)
            y[n, sine], y[n, cosine] = math.sin(angle), math.cos(angle)
    return y


def check_sinusoidal(build: Callable[[int], nn.Module], interleaved: bool = True) -> None:
    """Raises AssertionError if `build(dim)` does not turn positions (N,) into waves (N, D).

    `interleaved`: whether each sine stands beside its cosine, or all sines come first.
    """
    for dim in (2, 4, 10):
        for positions in ([0], [0, 1, 5, 2], [3000], []):
            positions_N = torch.tensor(positions, dtype=torch.int64)
            # Float32 angles of 3,000 radians are off by 1e-4.
            expected = sinusoidal_oracle(positions_N.numpy(), dim, interleaved)
            expect_close(f"waves of dim {dim}", build(dim)(positions_N), expected, 5e-4)
            # Positions in float64 ask for waves in float64.
            expect_close(f"float64 waves of dim {dim}", build(dim)(positions_N.double()), expected, 1e-11)
    waves = build(8)(torch.tensor([11.0, 4.0, 107.0, 100.0], dtype=torch.float64))
    same = (waves[0] * waves[1]).sum(), (waves[2] * waves[3]).sum()
    expect_close("law: dot products depend on the difference of positions alone", same[0], same[1], 1e-11)


def check_learned(build: Callable[[int, int], nn.Module]) -> None:
    """Raises AssertionError if `build(length, dim)` does not look rows up in its `weight`, gradients included."""
    module = build(5, 3)
    for positions in ([0], [4, 0, 2, 4], []):
        positions_N = torch.tensor(positions, dtype=torch.int64)

        def look_up(weight: Tensor, positions_N: Tensor = positions_N) -> Tensor:
            return torch.func.functional_call(module, {"weight": weight}, (positions_N,))

        def oracle(weight: np.ndarray, positions: list[int] = positions) -> np.ndarray:
            return np.array([[weight[position, d] for d in range(3)] for position in positions]).reshape(-1, 3)

        compare(look_up, oracle, {"weight": module.get_parameter("weight")})
    for outside in (5, -1):
        try:
            module(torch.tensor([outside]))
        except IndexError:
            continue
        raise AssertionError(f"position {outside} of 5 has no vector, and gave one")


def _plain(index: int, theta: float, width: int) -> float:
    return theta ** (-2 * index / width)


def _llama3(plain: float, scaling: Llama3Scaling) -> float:
    wavelength = 2 * math.pi / plain
    if wavelength < scaling.original_length / scaling.high_frequency_factor:
        return plain
    if wavelength > scaling.original_length / scaling.low_frequency_factor:
        return plain / scaling.factor
    span = scaling.high_frequency_factor - scaling.low_frequency_factor
    smooth = (scaling.original_length / wavelength - scaling.low_frequency_factor) / span
    return (1 - smooth) * plain / scaling.factor + smooth * plain


def _yarn(index: int, theta: float, width: int, scaling: Yarn) -> float:
    def pair_that_turns(times: float) -> float:
        return width * math.log(scaling.original_length / (2 * math.pi * times)) / (2 * math.log(theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    ramp = min(max((index - low) / (high - low if high != low else 0.001), 0.0), 1.0)
    plain = _plain(index, theta, width)
    return plain * (1 - ramp) + plain / scaling.factor * ramp


def frequencies_oracle(rope: Rope, prompt: int | None = None) -> np.ndarray:
    """Pair by pair in float64."""
    theta, width, scaling = rope.theta, rope.width, rope.scaling
    if isinstance(scaling, DynamicNtk):
        length = max(scaling.original_length, prompt or 0)
        theta *= (scaling.factor * length / scaling.original_length - scaling.factor + 1) ** (width / (width - 2))
    found = []
    for index in range(width // 2):
        plain = _plain(index, theta, width)
        if isinstance(scaling, LinearScaling):
            found.append(plain / scaling.factor)
        elif isinstance(scaling, Llama3Scaling):
            found.append(_llama3(plain, scaling))
        elif isinstance(scaling, Yarn):
            found.append(_yarn(index, theta, width, scaling))
        else:
            found.append(plain)
    return np.array(found)


ROPES = (
    Rope(width=2),
    Rope(width=64),
    Rope(width=10, theta=500000.0),
    Rope(width=16, scaling=LinearScaling(factor=4.0)),
    Rope(width=128, theta=500000.0, scaling=Llama3Scaling(factor=8.0, original_length=8192)),
    Rope(
        width=32,
        scaling=Llama3Scaling(factor=32.0, original_length=512, low_frequency_factor=2.0, high_frequency_factor=3.0),
    ),
    Rope(width=64, scaling=Yarn(factor=4.0, original_length=4096)),
    Rope(width=64, theta=1e6, scaling=Yarn(factor=40.0, original_length=2048, beta_fast=16.0, truncate=False)),
    Rope(width=8, scaling=Yarn(factor=2.0, original_length=64, beta_fast=1.01, beta_slow=1.0)),
    Rope(width=64, scaling=DynamicNtk(factor=2.0, original_length=1024)),
)


def check_frequencies(implementation: Frequencies) -> None:
    """Raises AssertionError if a rope's frequencies differ from the oracle's, or if a law of its scaling fails."""
    for rope in ROPES:
        for prompt in (None, 1, 1024, 5000):
            got = implementation(rope, prompt).double()
            expected = torch.from_numpy(frequencies_oracle(rope, prompt))
            # Float32 powers of up to 1e6, relative to each frequency: about eight roundings of 6e-8.
            expect_close(
                f"frequencies of {rope}, prompt {prompt}, over the right ones", got / expected, got / got, 5e-7
            )
            plain = implementation(Rope(width=rope.width, theta=rope.theta), None).double()
            slower = got <= plain * (1 + 1e-6)
            expect(bool(slower.all()), f"law: scaling never makes a pair turn faster: {rope}")
            if isinstance(rope.scaling, Yarn | Llama3Scaling):
                slowest = plain / rope.scaling.factor * (1 - 1e-6)
                expect(bool((got >= slowest).all()), f"law: no pair is slowed beyond the factor: {rope}")
