"""Checks of batch norm: oracle, gradients, running statistics over several steps, laws.

A maker has the signature of `nn.batch_norm.BatchNorm`; its modules hold `weight`, `bias`, `running_mean` and
`running_variance`, each (D,).
N rows of the batch · D features.   Read next: nn/batch_norm.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.lab.checks.parity import compare, compare_rounded, expect, expect_close, random

Maker = Callable[..., Any]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each column, element by element."""
    rows, columns = x.shape
    mean, variance = np.empty(columns), np.empty(columns)
    for d in range(columns):
        mean[d] = sum(x[n, d] for n in range(rows)) / rows
        variance[d] = sum((x[n, d] - mean[d]) ** 2 for n in range(rows)) / rows
    return mean, variance


def normed(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float
) -> np.ndarray:
    y = np.empty_like(x)
    for n, d in np.ndindex(x.shape):
        y[n, d] = (x[n, d] - mean[d]) / math.sqrt(variance[d] + eps) * weight[d] + bias[d]
    return y


def check_batch_norm(make: Maker) -> None:
    """Raises AssertionError, saying where, if `make(eps=, momentum=).build(dim)` is not batch norm."""
    for rows, dim in ((2, 1), (5, 3)):
        for eps in (1e-5, 0.5):
            _check_training(make(eps=eps, momentum=0.1).build(dim).double(), rows, dim, eps)
            _check_evaluation(make(eps=eps, momentum=0.1).build(dim).double(), rows, dim, eps)
    for momentum in (0.1, 0.3, 1.0):
        _check_running(make(eps=1e-5, momentum=momentum).build(3).double(), momentum)
    _check_extremes(make)


def _called(module: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def run(x_ND: Tensor, weight_D: Tensor, bias_D: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": weight_D, "bias": bias_D}, (x_ND,))

    return run


def _inputs(rows: int, dim: int) -> dict[str, Tensor]:
    return {
        "x": random(rows, dim, seed=1) + torch.arange(dim) * 3.0,
        "weight": random(dim, seed=2),
        "bias": random(dim, seed=3),
    }


def _check_training(module: nn.Module, rows: int, dim: int, eps: float) -> None:
    """The batch's own statistics, through which gradients flow."""

    def oracle(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return normed(x, weight, bias, *moments(x), eps)

    compare(_called(module.train()), oracle, _inputs(rows, dim))
    ones, zeros = torch.ones(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    x_ND = random(rows, dim, seed=4)
    y_ND = _called(module)(x_ND, ones, zeros)
    expect_close("law: each column's mean becomes 0", y_ND.mean(0), zeros, 1e-12)
    shifted = _called(module)(x_ND + 10.0, ones, zeros)
    expect_close("law: batch_norm(x + c) = batch_norm(x)", shifted, y_ND, 1e-11)


def _check_evaluation(module: nn.Module, rows: int, dim: int, eps: float) -> None:
    """The running statistics, which stay as they are."""
    mean, variance = random(dim, seed=5), random(dim, seed=6).abs() + 0.5
    module.get_buffer("running_mean").copy_(mean)
    module.get_buffer("running_variance").copy_(variance)

    def oracle(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return normed(x, weight, bias, mean.numpy(), variance.numpy(), eps)

    run, inputs = _called(module.eval()), _inputs(rows, dim)
    compare(run, oracle, inputs)
    expect_close("running_mean after evaluation", module.get_buffer("running_mean"), mean, 0.0)
    expect_close("running_variance after evaluation", module.get_buffer("running_variance"), variance, 0.0)
    alone = torch.cat([run(row, inputs["weight"], inputs["bias"]) for row in inputs["x"].split(1)])
    expect_close("law: in evaluation each row is on its own", alone, run(*inputs.values()), 1e-12)


def _check_running(module: nn.Module, momentum: float) -> None:
    """Several steps of different sizes; the unbiased variance is what is collected."""
    mean, variance = np.zeros(3), np.ones(3)
    module.train()
    for step, rows in enumerate((4, 2, 7)):
        x_ND = random(rows, 3, seed=10 + step) * (step + 1.0) + step
        module(x_ND.clone().requires_grad_())
        batch_mean, batch_variance = moments(x_ND.numpy())
        mean = (1 - momentum) * mean + momentum * batch_mean
        variance = (1 - momentum) * variance + momentum * batch_variance * rows / (rows - 1)
        expect_close(f"running_mean after step {step}", module.get_buffer("running_mean"), mean, 1e-12)
        expect_close(f"running_variance after step {step}", module.get_buffer("running_variance"), variance, 1e-12)
    for name, buffer in module.named_buffers():
        expect(not buffer.requires_grad, f"{name} must not hold on to the steps' graphs")


def _check_extremes(make: Maker) -> None:
    module = make(eps=1e-5, momentum=0.1).build(2)
    for rows in (0, 1):
        try:
            module.train()(torch.zeros(rows, 2))
        except BadInput:
            continue
        raise AssertionError(f"{rows} rows have no variance; in training they have to be refused")
    empty = module.eval()(torch.zeros(0, 2))
    expect(tuple(empty.shape) == (0, 2), f"no rows gave {tuple(empty.shape)}")
    constant = module.train()(torch.full((3, 2), 7.0))
    expect_close("a constant batch", constant, torch.zeros(3, 2), 1e-6)

    def oracle(x: np.ndarray) -> np.ndarray:
        return normed(x, np.ones(2), np.zeros(2), *moments(x), 1e-5)

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for scale in (1.0, 100.0):
            compare_rounded(module, oracle, {"x": random(4, 2, seed=9, scale=scale)}, dtype)
    spoilt = torch.tensor([[1.0, 2.0], [torch.nan, 3.0], [0.0, 5.0]])
    nan = module(spoilt).isnan().all(0).tolist()
    expect(nan == [True, False], f"a NaN has to spoil its own column in training, spoilt {nan}")
