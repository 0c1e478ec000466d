"""What a part costs, answered from its value without building it: parameters, arithmetic, cache.

A matrix product of (tokens, inputs) with (inputs, outputs) is tokens * inputs * outputs multiply-adds, two FLOPs each.
Only products are counted, forward only: projections, and scores and weighted sums of attention at the asked length.
Departure: everything else (norms, activations, rotations, softmax, adding a bias) counts as 0 FLOPs. At usual widths
it is under 1% of the arithmetic, though it costs more time than that: it waits for memory and for dispatch.

Read next: nn/feedforward.py
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Learned numbers; FLOPs for the new tokens, forward; bytes kept per sequence once it has the asked length."""

    parameters: int = 0
    flops: int = 0
    cache_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(self.parameters + other.parameters, self.flops + other.flops, self.cache_bytes + other.cache_bytes)

    def __mul__(self, times: int) -> Cost:
        """The cost of `times` separate copies of the part (not of more tokens through one part)."""
        if not isinstance(times, int):
            return NotImplemented
        return Cost(self.parameters * times, self.flops * times, self.cache_bytes * times)

    __rmul__ = __mul__


def linear_cost(inputs: int, outputs: int, tokens: int, *, bias: bool) -> Cost:
    """A dense layer: inputs * outputs weights (and outputs biases), used once per token."""
    return Cost(parameters=inputs * outputs + outputs * bias, flops=2 * tokens * inputs * outputs)
