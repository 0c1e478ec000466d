"""Checks of the activations and of the gated product: oracle, gradients, half precision, extremes, laws.

An activation takes x of any shape; a gate has the signature of `ops.activation.gate_readable`.
N tokens, flat · F hidden dim.   Read next: ops/activation.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
import torch

from cutaway.lab.checks.parity import Implementation, compare, compare_rounded, expect, expect_close, random

Scalar = Callable[[float], float]


def _sigmoid(x: float) -> float:
    # Python raises on overflow, hence two ways of writing the same.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _cubic(x: float) -> float:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


SCALARS: Mapping[str, Scalar] = MappingProxyType(
    {
        "sigmoid": _sigmoid,
        "tanh": math.tanh,
        "relu": lambda x: max(x, 0.0),
        "silu": lambda x: x * _sigmoid(x),
        "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
        "gelu_tanh": lambda x: x * (1 + math.tanh(_cubic(x))) / 2,
        "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    }
)
# f(x) = x g(x) with g(x) + g(-x) = 1, so that f(x) - f(-x) = x.
SELF_GATED = ("relu", "silu", "gelu", "gelu_tanh", "quick_gelu")


def activation_oracle(x: np.ndarray, name: str) -> np.ndarray:
    """Element by element with Python's math; NaN stays NaN."""
    one = SCALARS[name]
    y = np.empty_like(x)
    for place in np.ndindex(x.shape):
        value = float(x[place])
        y[place] = value if math.isnan(value) else one(value)
    return y


def gate_oracle(gate: np.ndarray, up: np.ndarray, name: str) -> np.ndarray:
    return activation_oracle(gate, name) * up


def check_activation(implementation: Implementation, name: str) -> None:
    """Raises AssertionError, saying where, if `implementation(x)` is not the activation of that name."""
    oracle = partial(activation_oracle, name=name)
    # Spread over the bend and both tails; half a step off zero, where relu has a corner.
    x = torch.linspace(-7.0, 7.0, 57, dtype=torch.float64) + 0.0625
    compare(implementation, oracle, {"x": x})
    compare(implementation, oracle, {"x": random(2, 3, 4)})
    extremes = torch.tensor([0.0, -0.0, 1e-40, -1e-40, 40.0, -40.0, 200.0, -200.0, 1e4, -1e4])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        compare_rounded(implementation, oracle, {"x": x}, dtype)
        compare_rounded(implementation, oracle, {"x": extremes}, dtype)
        empty = implementation(torch.empty(0, 3, dtype=dtype))
        expect(tuple(empty.shape) == (0, 3) and empty.dtype == dtype, f"no tokens gave {tuple(empty.shape)}")
    _check_far(implementation, name)
    spoilt = implementation(torch.tensor([1.0, torch.nan, -1.0]))
    expect(spoilt.isnan().tolist() == [False, True, False], f"NaN has to stay where it is, got {spoilt.tolist()}")
    if name in SELF_GATED:
        expect_close("law: f(x) - f(-x) = x", implementation(x) - implementation(-x), x, 1e-12)


def _check_far(implementation: Implementation, name: str) -> None:
    """Far out the gradient is 0 or 1, not the NaN of an overflow times zero."""
    far = torch.tensor([-1e4, -200.0, 200.0, 1e4], requires_grad=True)
    implementation(far).sum().backward()
    expect(far.grad is not None, "there is no gradient")
    slope = 1.0 if name in SELF_GATED else 0.0
    expect_close("gradient far from zero", far.grad, torch.tensor([0.0, 0.0, slope, slope]), 1e-6)  # type: ignore[arg-type]


def check_gate(implementation: Callable[..., torch.Tensor]) -> None:
    """Raises AssertionError, saying where, if it is not activation(gate) * up for every name."""
    for name in SCALARS:
        gate, oracle = partial(implementation, activation=name), partial(gate_oracle, name=name)
        for shape in ((1, 1), (3, 5)):
            inputs = {"gate": random(*shape, seed=1, scale=2.0), "up": random(*shape, seed=2)}
            compare(gate, oracle, inputs)
            # Without gradients a form may overwrite what is its own, but not what it was given.
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                compare_rounded(gate, oracle, inputs, dtype)
        empty = gate(torch.empty(0, 4), torch.empty(0, 4))
        expect(tuple(empty.shape) == (0, 4), f"no tokens gave {tuple(empty.shape)}")
        # Only one of the two may be learned.
        for learned in (0, 1):
            pair = [random(2, 3, seed=3), random(2, 3, seed=4)]
            pair[learned].requires_grad_()
            gate(*pair).sum().backward()
            expect(pair[learned].grad is not None, f"{name}: no gradient for {('gate', 'up')[learned]} alone")
