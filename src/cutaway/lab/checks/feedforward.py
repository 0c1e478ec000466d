"""Checks of the plain and the gated feed-forward: oracle, gradients for input and weights, laws.

A maker has the signature of `nn.feedforward.Plain` or `Gated`, and its modules name their parameters alike:
up, down (and gate) with `.weight` and `.bias`.
N tokens, flat · D model dim · F hidden dim.   Read next: nn/feedforward.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.lab.checks.activation import SCALARS, activation_oracle
from cutaway.lab.checks.parity import compare, expect, expect_close, random
from cutaway.nn.context import Context

Maker = Callable[..., Any]
# For each name of a linear map its rows of weights, and its biases or None.
Weights = dict[str, np.ndarray]


def _linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    y = np.zeros((len(x), len(weight)))
    for n, row in enumerate(x):
        for out, column in enumerate(weight):
            total = 0.0 if bias is None else float(bias[out])
            for value, factor in zip(row, column, strict=True):
                total += float(value) * float(factor)
            y[n, out] = total
    return y


def plain_oracle(x: np.ndarray, weights: Weights, activation: str) -> np.ndarray:
    return _linear(activation_oracle(_linear(x, weights, "up"), activation), weights, "down")


def gated_oracle(x: np.ndarray, weights: Weights, activation: str) -> np.ndarray:
    gate = activation_oracle(_linear(x, weights, "gate"), activation)
    return _linear(gate * _linear(x, weights, "up"), weights, "down")


def check_plain(make: Maker) -> None:
    """Raises AssertionError, saying where, if `make(hidden=, activation=, bias=)` builds no plain feed-forward."""
    _check_feed(make, plain_oracle, ("up", "down"))


def check_gated(make: Maker) -> None:
    """Raises AssertionError, saying where, if `make(hidden=, activation=, bias=)` builds no gated feed-forward."""
    _check_feed(make, gated_oracle, ("gate", "up", "down"))


def _check_feed(make: Maker, oracle: Callable[..., np.ndarray], maps: tuple[str, ...]) -> None:
    for dim, hidden, tokens, bias in ((1, 1, 1, False), (3, 5, 2, True), (4, 2, 3, False)):
        for activation in SCALARS:
            value = make(hidden=hidden, activation=activation, bias=bias)
            module = _random_module(value, dim)
            _compare_feed(module, oracle, random(tokens, dim, seed=7), activation)
            _check_cost(value, module, dim, maps)
    module = _random_module(make(hidden=5, activation="gelu", bias=True), 3)
    empty, report = module(torch.zeros(0, 3, dtype=torch.float64), Context.of((0,)))
    expect(tuple(empty.shape) == (0, 3) and report == {}, f"no tokens gave {tuple(empty.shape)}, report {report}")
    x_ND, order = random(4, 3, seed=8), torch.tensor([2, 0, 3, 1])
    moved, still = module(x_ND[order], Context.of((4,)))[0], module(x_ND, Context.of((4,)))[0]
    expect_close("law: each token is on its own", moved, still[order], 1e-12)
    _check_dropout(make, maps)


def _random_module(value: Any, dim: int) -> nn.Module:
    """In float64, with weights large enough to reach the bend of the activation, and biases that are not zero."""
    module = value.build(dim).double()
    for index, parameter in enumerate(module.parameters()):
        parameter.data = random(*parameter.shape, seed=index + 1)
    return module


def _compare_feed(module: nn.Module, oracle: Callable[..., np.ndarray], x_ND: Tensor, activation: str) -> None:
    learned = dict(module.named_parameters())
    context = Context.of((x_ND.shape[0],))

    def run(x_ND: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(learned, weights, strict=True)), (x_ND, context))[0]

    def slow(x: np.ndarray, *weights: np.ndarray) -> np.ndarray:
        return oracle(x, dict(zip(learned, weights, strict=True)), activation)

    try:
        compare(run, slow, {"x": x_ND, **learned})
    except AssertionError as error:
        raise AssertionError(f"{activation}: {error}") from error


def _check_cost(value: Any, module: nn.Module, dim: int, maps: tuple[str, ...]) -> None:
    cost = value.cost(dim, 7, 100)
    count = sum(parameter.numel() for parameter in module.parameters())
    expect(cost.parameters == count, f"the cost says {cost.parameters} parameters, the module has {count}")
    products = 2 * 7 * sum(module.get_parameter(f"{name}.weight").numel() for name in maps)
    expect(cost.flops == products, f"the cost says {cost.flops} FLOPs for 7 tokens, the products are {products}")
    expect(cost.cache_bytes == 0 and value.streams(dim) == (), "a feed-forward keeps nothing")


def _check_dropout(make: Maker, maps: tuple[str, ...]) -> None:
    """Half of the hidden vector is dropped in training, the rest doubled, nothing in evaluation."""
    module = make(hidden=4000, activation="relu", bias=False, dropout=0.5).build(1).double()
    for name in maps:
        # All ones: each hidden number is 1, and the result counts those that are left.
        module.get_parameter(f"{name}.weight").data.fill_(1.0)
    x_ND, context = torch.ones(1, 1, dtype=torch.float64), Context.of((1,))
    expect_close("evaluation drops nothing", module.eval()(x_ND, context)[0], torch.full((1, 1), 4000.0), 1e-9)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        left = float(module.train()(x_ND, context)[0].detach())
    # 4,000 draws: the deviation is 2 * sqrt(4000) / 2 = 63; five of them.
    expect(left != 4000.0 and abs(left - 4000.0) < 320.0, f"dropout 0.5 of 4,000 ones, doubled, left {left:g}")
