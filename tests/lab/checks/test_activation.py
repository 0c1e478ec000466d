"""The checks find every deliberately wrong activation and gate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cutaway.lab.checks.activation import SCALARS, check_activation, check_gate
from cutaway.ops.activation import FAST


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("other", SCALARS)
def test_no_activation_passes_for_another(name, other):
    if name == other:
        check_activation(FAST[name], name)
    else:
        with pytest.raises(AssertionError):
            check_activation(FAST[other], name)


def naive_sigmoid(x):
    return 1 / (1 + torch.exp(-x))


class TruncatedSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.silu(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * torch.sigmoid(x)  # lacks x * sigmoid'(x)


@pytest.mark.parametrize(
    ("wrong", "name", "where"),
    [
        (naive_sigmoid, "sigmoid", "far from zero"),
        (lambda x: x.relu().nan_to_num(), "relu", "NaN"),
        (lambda x: x * (x > 0).to(x.dtype).detach() + 1e-3 * x, "relu", "output"),
        (lambda x: F.silu(x.float()).float(), "silu", "inputs gave"),
        (lambda x: x.clamp(-3, 3) * torch.sigmoid(x), "silu", "output"),
        (TruncatedSilu.apply, "silu", "gradient of x"),
        (lambda x: 2 * torch.sigmoid(2 * x), "tanh", "output"),
    ],
)
def test_a_wrong_activation_is_found(wrong, name, where):
    with pytest.raises(AssertionError, match=where):
        check_activation(wrong, name)


def overwriting(gate, up, activation):
    """Right, but eats its input when no gradient is asked for."""
    if gate.requires_grad or up.requires_grad:
        return FAST[activation](gate) * up
    return gate.copy_(FAST[activation](gate)).mul_(up)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda g, u, activation: FAST[activation](u) * g,
        lambda g, u, activation: FAST[activation](g),
        lambda g, u, activation: F.silu(g) * u,
        lambda g, u, activation: FAST[activation](g * u),
        lambda g, u, activation: FAST[activation](g) * u.detach(),
        overwriting,
    ],
    ids=["gate and up swapped", "no up", "always silu", "product inside", "up has no gradient", "overwrites its input"],
)
def test_a_wrong_gate_is_found(wrong):
    with pytest.raises(AssertionError):
        check_gate(wrong)
