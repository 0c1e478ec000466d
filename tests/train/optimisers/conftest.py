"""A small module of matrices and vectors, and a walk of many steps that every optimiser is held to."""

from __future__ import annotations

import pytest
import torch
from torch import nn


class Toy(nn.Module):
    """Shapes that differ, a pair that are alike, a vector, a single number. `blocks` makes the matrices hidden ones."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        torch.manual_seed(0)
        shapes = [(6, 4), (4, 6), (6, 4), (5, 5)]
        self.blocks = nn.ModuleList(nn.Linear(inputs, outputs) for outputs, inputs in shapes)
        self.gain = nn.Parameter(torch.ones(7))
        self.number = nn.Parameter(torch.tensor([0.5]))
        self.to(dtype)


def draw(module: nn.Module, step: int, missing: bool) -> None:
    """Gradients of very different sizes, the same for the same step; every third step some weights have none."""
    generator = torch.Generator().manual_seed(step)
    for place, weight in enumerate(module.parameters()):
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64) * 10.0 ** (place % 4 - 2)
        weight.grad = None if missing and step % 3 == 2 and place % 2 else noise.to(weight.dtype)


@pytest.fixture
def toy():
    """`toy(dtype)`: the module, always with the same weights."""
    return Toy


@pytest.fixture
def walk():
    """`walk(module, optimiser, steps, start=0, missing=True)`: gradients drawn by step, then the optimiser's step."""

    def go(module, optimiser, steps: int, start: int = 0, missing: bool = True) -> None:
        for step in range(start, start + steps):
            draw(module, step, missing)
            optimiser.step()

    return go


@pytest.fixture
def near():
    """`near(a, b, rtol, atol)`: every weight of two modules; names the first that differs."""

    def check(one: nn.Module, other: nn.Module, rtol: float, atol: float = 0.0) -> None:
        for (name, weight), twin in zip(one.named_parameters(), other.parameters(), strict=True):
            scale = float(twin.detach().abs().max())
            torch.testing.assert_close(
                weight.detach(),
                twin.detach(),
                rtol=rtol,
                atol=max(atol, rtol * scale),
                msg=lambda text, name=name: f"{name} {text}",
            )

    return check


@pytest.fixture
def split():
    """`split(module)`: (what decays, what does not), found another way than the source finds it."""
    return lambda module: (
        [weight for name, weight in module.named_parameters() if name.endswith(".weight")],
        [weight for name, weight in module.named_parameters() if not name.endswith(".weight")],
    )


@pytest.fixture
def resumed(walk):
    """`resumed(value, module, make)`: the weights after 4 steps, a save, a load elsewhere and 4 more, and after 8."""

    def go(value, make) -> tuple[nn.Module, nn.Module]:
        straight = make()
        walk(straight, value.build(straight), 8)
        first = make()
        optimiser = value.build(first)
        walk(first, optimiser, 4)
        kept = {
            name: held.clone() if isinstance(held, torch.Tensor) else held
            for name, held in optimiser.state_dict().items()
        }
        weights = {name: weight.clone() for name, weight in first.state_dict().items()}
        walk(first, optimiser, 3)  # what happens after the save must not reach it
        second = make()
        second.load_state_dict(weights)
        later = value.build(second)
        later.load_state_dict(kept)
        walk(second, later, 4, start=4)
        return straight, second

    return go
