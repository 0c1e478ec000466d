"""A model with the numbers that it starts with, which the seed alone decides, whatever device it will be on.

Read next: nn/initialisation.py
"""

from __future__ import annotations

from typing import Protocol

from torch import nn

from cutaway.base.seeds import seed_all
from cutaway.nn.initialisation import Initialisation


class Spec(Protocol):
    """A model's value."""

    def build(self) -> nn.Module: ...


def begun(spec: Spec, seed: int, device: str, initialisation: Initialisation | None) -> nn.Module:
    """Builds it. `initialisation`: None for what the parts start with by themselves (GPT-1's, N(0, 0.02))."""
    seed_all(seed)
    module = spec.build()
    if initialisation is not None:
        initialisation.apply(module)
    return module.to(device)
