"""Activations, elementwise, and the gated product built on them.

sigmoid(x) = 1 / (1 + e^-x)      tanh(x) = (e^2x - 1) / (e^2x + 1)      relu(x) = max(x, 0)
silu(x) = x sigmoid(x), also called swish (arXiv 1710.05941; 1702.03118)
gelu(x) = x Phi(x) = x/2 (1 + erf(x / sqrt 2)), or with tanh in place of erf (arXiv 1606.08415)
gate(g, u) = activation(g) * u: GLU, sigmoid (arXiv 1612.08083); SwiGLU, silu, and GeGLU, gelu (arXiv 2002.05202)
Departure: half precision is worked out in float32 and rounded once. erf itself comes from torch.
N tokens, flat · F hidden dim (any shape will do).   Read next: nn/feedforward.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean

Activation = Callable[[Tensor], Tensor]

# What checkpoints call them -> ours. "gelu_fast" and "gelu_accurate" are the tanh form with its constants spelled out.
# One trap: in GPT-1's config, `afn: "gelu"` means the tanh form. Its file of names has to say so.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "sigmoid": "sigmoid",
        "tanh": "tanh",
        "relu": "relu",
        "gelu": "gelu",
        "gelu_python": "gelu",
        "gelu_tanh": "gelu_tanh",
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu_python_tanh": "gelu_tanh",
        "gelu_fast": "gelu_tanh",
        "gelu_accurate": "gelu_tanh",
        "quick_gelu": "quick_gelu",
        "silu": "silu",
        "swish": "silu",
    }
)


def activation_name(name: str, *, source: str | None = None, field: str | None = None) -> str:
    """Our name of an activation that a checkpoint or a person names; an unknown one is BadInput."""
    if name not in ALIASES:
        raise BadInput(f'unknown activation "{name}"{did_you_mean(str(name), ALIASES)}', source=source, field=field)
    return ALIASES[name]


def _in_float32(activation: Activation) -> Activation:
    """Half precision in, float32 within, half precision out."""

    def widened(x: Tensor) -> Tensor:
        return activation(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)

    return widened


def _largest_exponent(x: Tensor) -> float:
    """The largest whole number whose exponential x's dtype can hold: 88 for float32, 709 for float64."""
    return math.floor(math.log(torch.finfo(x.dtype).max))


@_in_float32
def sigmoid(x: Tensor) -> Tensor:
    # Without the clamp e^-x overflows, and the gradient becomes inf * 0. Beyond it the result is 0 anyway.
    return 1 / (1 + torch.exp(-x.clamp(min=-_largest_exponent(x))))


@_in_float32
def tanh(x: Tensor) -> Tensor:
    grown = torch.expm1(2 * x.clamp(max=_largest_exponent(x) / 2))  # e^2x - 1, exact also near zero
    return grown / (grown + 2)


def relu(x: Tensor) -> Tensor:
    return torch.where(x <= 0, torch.zeros_like(x), x)  # asked this way round so that NaN stays NaN


@_in_float32
def silu(x: Tensor) -> Tensor:
    return x * sigmoid(x)


@_in_float32
def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


@_in_float32
def gelu_tanh(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


@_in_float32
def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), CLIP's cheap gelu."""
    return x * sigmoid(1.702 * x)


READABLE: Mapping[str, Activation] = MappingProxyType(
    {
        "sigmoid": sigmoid,
        "tanh": tanh,
        "relu": relu,
        "silu": silu,
        "gelu": gelu,
        "gelu_tanh": gelu_tanh,
        "quick_gelu": quick_gelu,
    }
)


def _fast_quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _fast_gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


# torch's forms, one call each, with float32 inside the kernel for half precision.
FAST: Mapping[str, Activation] = MappingProxyType(
    {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_tanh": _fast_gelu_tanh,
        "quick_gelu": _in_float32(_fast_quick_gelu),
    }
)


def gate_readable(gate_NF: Tensor, up_NF: Tensor, activation: str) -> Tensor:
    """activation(gate) * up, (N, F); `activation` is one of `READABLE`'s names."""
    return READABLE[activation](gate_NF) * up_NF


def gate_fast(gate_NF: Tensor, up_NF: Tensor, activation: str) -> Tensor:
    """The same; without gradients the product overwrites the activation.

    A second fresh tensor of this size costs more than the arithmetic, since its pages have to be mapped in
    (512 x 1536 float32: 2.4 ms against 0.3 with glibc's defaults).
    """
    activated_NF = FAST[activation](gate_NF)
    # Some activations keep their result for the backward pass, so with gradients it must stay as it is.
    return activated_NF * up_NF if activated_NF.requires_grad else activated_NF.mul_(up_NF)


def glu(gate_NF: Tensor, up_NF: Tensor) -> Tensor:
    """sigmoid(gate) * up."""
    return gate_readable(gate_NF, up_NF, "sigmoid")


def swiglu(gate_NF: Tensor, up_NF: Tensor) -> Tensor:
    """silu(gate) * up."""
    return gate_readable(gate_NF, up_NF, "silu")


def geglu(gate_NF: Tensor, up_NF: Tensor) -> Tensor:
    """gelu(gate) * up."""
    return gate_readable(gate_NF, up_NF, "gelu")
