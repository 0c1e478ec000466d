"""One call of a reader's part beside the oracle: values, dtype, inputs left alone, gradients.

Inputs are handed over in float32, which real models run in; the oracle reads the same numbers as float64. Tolerances:
float32 keeps 24 bits, 6e-8 of a number; sums of some dozens of terms in another order and one exponential lose up to a
hundred times that.
Read next: lab/swap/judge.py, lab/checks/parity.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.lab.swap.verdict import Case

FORWARD = {torch.float32: 2e-5, torch.float64: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
GRADIENT = 2e-4  # a product of several such sums
FEW = 24  # numbers of an input that are still shown


@dataclass(frozen=True, kw_only=True)
class Trial:
    """`oracle` takes the inputs as float64 and the options. `smooth`: the readable form that gives the gradients of
    `learned`, in float64."""

    what: str
    inputs: Mapping[str, Any]
    oracle: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    smooth: Callable[..., Tensor] | None = None
    learned: tuple[str, ...] = ()


def rounded(value: Any, dtype: torch.dtype) -> Any:
    """A fresh copy in that dtype; what is no floating-point tensor stays."""
    return value.detach().to(dtype).clone() if _is_float(value) else value


def attempt(trial: Trial, candidate: Callable[..., Any]) -> Case | None:
    """What is wrong with the candidate's answer, or None. Its own exceptions pass through."""
    given = {name: rounded(value, trial.dtype) for name, value in trial.inputs.items()}
    exact = {name: rounded(value, torch.float64) for name, value in given.items()}
    expected = torch.as_tensor(np.asarray(_plain(trial.oracle(*exact.values(), **trial.options)))).double()
    with torch.no_grad():
        got = candidate(*given.values(), **trial.options)
    shown = {name: _shown(value) for name, value in exact.items() if isinstance(value, Tensor)}
    shown |= {name: repr(value) for name, value in trial.options.items() if isinstance(value, (int, float, str))}
    if not isinstance(got, Tensor):
        return Case(what=trial.what, place="result", got=type(got).__name__, expected="a tensor", inputs=shown)
    if tuple(got.shape) != tuple(expected.shape):
        wrong = (str(tuple(got.shape)), str(tuple(expected.shape)))
        return Case(what=trial.what, place="shape", got=wrong[0], expected=wrong[1], inputs=shown)
    if got.dtype != trial.dtype:
        return Case(what=trial.what, place="dtype", got=str(got.dtype), expected=str(trial.dtype), inputs=shown)
    for name, value in given.items():
        if _is_float(value):
            case = difference(f"input {name} after the call", value, exact[name], 0.0, trial.what, shown)
            if case is not None:
                return case
    case = difference("output", got, expected, FORWARD[trial.dtype], trial.what, shown)
    if case is None and trial.learned and trial.smooth is not None:
        case = _gradients(trial, candidate, exact, shown)
    return case


def _gradients(trial: Trial, candidate: Callable[..., Any], exact: dict[str, Any], shown: dict) -> Case | None:
    found: list[tuple[Tensor | None, ...]] = []
    for function, dtype in ((candidate, trial.dtype), (trial.smooth, torch.float64)):
        leaves = {name: rounded(exact[name], dtype).requires_grad_() for name in trial.learned}
        # Products with one: what is handed over is no leaf, as in a model.
        handed = {name: leaves[name] * 1 if name in leaves else rounded(value, dtype) for name, value in exact.items()}
        assert function is not None
        got = function(*handed.values(), **trial.options)
        if not got.requires_grad:
            where = f"gradient of {trial.learned[0]}"
            return Case(what=trial.what, place=where, got="none", expected="one", inputs=shown)
        make = torch.Generator().manual_seed(1)
        weight = torch.randn(got.shape, generator=make, dtype=torch.float64).to(got.dtype)
        found.append(torch.autograd.grad((got * weight).sum(), list(leaves.values()), allow_unused=True))
    for name, mine, ours in zip(trial.learned, *found, strict=True):
        mine = torch.zeros_like(exact[name]) if mine is None else mine
        ours = torch.zeros_like(exact[name]) if ours is None else ours
        case = difference(f"gradient of {name}", mine, ours, GRADIENT, trial.what, shown)
        if case is not None:
            return case
    return None


def difference(
    place: str, got: Tensor, expected: Tensor, tolerance: float, what: str = "", inputs: Mapping[str, str] | None = None
) -> Case | None:
    """|got - expected| <= tolerance * max(1, |expected|) everywhere, NaN equal to NaN; else where it is worst."""
    got, expected = got.detach().double(), expected.detach().double()
    error = (got - expected).abs() - tolerance * expected.abs().clamp(min=1.0)
    same = (got == expected) | (got.isnan() & expected.isnan()) | (error <= 0)
    if bool(same.all()):
        return None
    worst = torch.where(same, -torch.inf, error.nan_to_num(torch.inf, torch.inf))
    index = tuple(int(one) for one in torch.unravel_index(worst.argmax(), worst.shape))
    where = f"{place}[{', '.join(map(str, index))}]" if index else place
    return Case(
        what=what, place=where, got=f"{float(got[index]):.7g}", expected=f"{float(expected[index]):.7g}",
        inputs=inputs or {},
    )  # fmt: skip


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors are the same up to float32's rounding; shapes included."""
    return got.shape == expected.shape and difference("", got, expected, tolerance) is None


def _shown(value: Tensor) -> str:
    """The numbers of a small tensor, the shape of a large one."""
    if value.numel() > FEW:
        return f"shape {tuple(value.shape)}"
    rows = value.tolist()
    return str(_short(rows))


def _short(value: Any) -> Any:
    return [_short(one) for one in value] if isinstance(value, list) else float(f"{value:.4g}")


def _plain(value: Any) -> Any:
    return value.detach().double().numpy() if isinstance(value, Tensor) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
