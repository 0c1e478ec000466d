"""One tool for "are these two the same": values and gradients in float64 against a slow oracle, and where they differ.

An oracle is a plain float64 function of numpy arrays that loops over elements. Its gradients need no second derivation:
g_i = (8 (L(x_i + h) - L(x_i - h)) - (L(x_i + 2h) - L(x_i - 2h))) / 12h, with L the dot product of a fixed random
cotangent and the oracle's output. Its error is of order h^4 = 1e-12 (formula) and 1e-16 / h = 1e-13 (rounding).
Read next: lab/checks/norm.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Implementation = Callable[..., Tensor]  # takes tensors (and options), returns one tensor
Oracle = Callable[..., np.ndarray]  # the same arguments with numpy arrays for tensors

STEP = 1e-3
# Float64 sums in another order: a few of 53 bits, over sums of up to some hundred terms.
FORWARD = 1e-12
# A hundred times the error of the differences above (1e-12, times derivatives of up to about 100).
GRADIENT = 1e-8

# About three roundings: results are rounded once or twice, and the oracle starts from the same rounded inputs.
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 2.4e-2, torch.float16: 3e-3}


def expect(holds: bool, message: str) -> None:
    """An assert that stays when Python runs with -O."""
    if not holds:
        raise AssertionError(message)


def expect_close(what: str, got: Tensor | np.ndarray, expected: Tensor | np.ndarray, tolerance: float) -> None:
    """|got - expected| <= tolerance * max(1, |expected|) everywhere, NaN equal to NaN; else says where it is worst."""
    got, expected = _array(got), _array(expected)
    expect(got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}")
    with np.errstate(invalid="ignore"):
        excess = np.abs(got - expected) - tolerance * np.maximum(1.0, np.abs(expected))
    same = (got == expected) | (np.isnan(got) & np.isnan(expected)) | (excess <= 0)
    if same.all():
        return
    # The worst place; one that is NaN or infinite on one side only is worse than all.
    badness = np.where(same, -np.inf, np.where(np.isfinite(excess), excess, np.inf))
    place = tuple(int(index) for index in np.unravel_index(int(badness.argmax()), badness.shape))
    where = f"{what}[{', '.join(map(str, place))}]" if place else what
    raise AssertionError(
        f"{where}: got {got[place]:.10g}, expected {expected[place]:.10g} (tolerance {tolerance:g}); "
        f"{int((~same).sum())} of {same.size} differ"
    )


def compare(
    implementation: Implementation,
    oracle: Oracle,
    inputs: Mapping[str, Any],
    *,
    forward: float = FORWARD,
    gradient: float | None = GRADIENT,
    **options: Any,
) -> None:
    """Values, then gradients for every floating-point input, in float64.

    `inputs` (name -> tensor or other) are handed over in their order, `options` by keyword. `gradient=None` leaves
    gradients out. Raises AssertionError that names the output or the input's gradient, the index, and both numbers.
    """
    leaves = {name: _leaf(value) for name, value in inputs.items()}
    plain = {name: _plain(value) for name, value in leaves.items()}
    got = implementation(*leaves.values(), **options)
    expected = oracle(*plain.values(), **options)
    expect(got.dtype == torch.float64, f"float64 inputs gave {got.dtype}")
    expect_close("output", got, expected, forward)
    for name, value in leaves.items():
        if isinstance(value, Tensor):
            expect_close(f"input {name} after the call", value, plain[name], 0.0)
    if gradient is None or not got.requires_grad:
        learned = [name for name, value in leaves.items() if isinstance(value, Tensor) and value.requires_grad]
        expect(gradient is None or not learned, f"the output has no gradient for {', '.join(learned)}")
        return
    cotangent = np.random.default_rng(1).standard_normal(expected.shape)
    got.backward(torch.from_numpy(cotangent))
    for name, value in leaves.items():
        if isinstance(value, Tensor) and value.requires_grad:
            given = torch.zeros_like(value) if value.grad is None else value.grad
            slopes = _slopes(oracle, plain, name, cotangent, options)
            expect_close(f"gradient of {name}", given, slopes, gradient)


def compare_weighed(
    implementation: Implementation,
    oracle: Oracle,
    spec: Any,
    weights: Mapping[str, Tensor],
    x_ND: Tensor,
    lengths: tuple[int, ...],
    *,
    gradient: float = GRADIENT,
) -> None:
    """`compare` for a part with weights: both are called with (spec, weights by name, x (N, D), lengths of the
    sequences), and gradients are those of x and of every weight."""
    names = tuple(weights)

    def called(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x_ND, *given: function(spec, dict(zip(names, given, strict=True)), x_ND, lengths)

    compare(called(implementation), called(oracle), {"x": x_ND, **weights}, gradient=gradient)


def compare_rounded(
    implementation: Implementation,
    oracle: Oracle,
    inputs: Mapping[str, Any],
    dtype: torch.dtype,
    *,
    tolerance: float | None = None,
    **options: Any,
) -> None:
    """Values in a narrower dtype against the oracle on the same rounded inputs; the dtype has to be kept."""
    rounded = {name: value.to(dtype) if _is_float(value) else value for name, value in inputs.items()}
    plain = {name: _plain(value) for name, value in rounded.items()}
    got = implementation(*rounded.values(), **options)
    expect(got.dtype == dtype, f"{dtype} inputs gave {got.dtype}")
    expected = oracle(*plain.values(), **options)
    for name, value in rounded.items():
        if isinstance(value, Tensor):
            expect_close(f"input {name} after the call", value, plain[name], 0.0)
    expect_close(f"output in {dtype}", got, expected, ROUNDING[dtype] if tolerance is None else tolerance)


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Float64 normal numbers, the same in every run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def _slopes(
    oracle: Oracle, plain: Mapping[str, Any], name: str, cotangent: np.ndarray, options: Mapping[str, Any]
) -> np.ndarray:
    """The gradient of sum(cotangent * oracle) for one input, element by element."""
    moved = plain[name].copy()
    arguments = [moved if other == name else value for other, value in plain.items()]
    slopes = np.zeros_like(moved)
    for place in np.ndindex(moved.shape):
        start = moved[place]
        totals = {}
        for steps in (-2, -1, 1, 2):
            moved[place] = start + steps * STEP
            totals[steps] = float((cotangent * oracle(*arguments, **options)).sum())
        moved[place] = start
        slopes[place] = (8 * (totals[1] - totals[-1]) - (totals[2] - totals[-2])) / (12 * STEP)
    return slopes


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _leaf(value: Any) -> Any:
    return value.detach().double().clone().requires_grad_() if _is_float(value) else value


def _plain(value: Any) -> Any:
    return _array(value).copy() if isinstance(value, Tensor) else value


def _array(value: Tensor | np.ndarray) -> np.ndarray:
    """As numpy; floating-point numbers as float64, which holds all narrower ones exactly."""
    if isinstance(value, Tensor):
        return (value.double() if value.is_floating_point() else value).detach().cpu().numpy()
    return np.asarray(value)
