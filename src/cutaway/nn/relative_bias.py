"""Relative position bias: a learned number for each head and distance, added to the scores of self-attention.

Raffel et al. 2020 (T5, arXiv 1910.10683), section 2.1.   score(t, s) = q_t k_s + bias[bucket(s - t)]
Short distances have a bucket each, longer ones share buckets that widen logarithmically up to `furthest`; all beyond
share the last. One table serves all layers of a stack. Attention that sees both ways has half its buckets for each.
Departure: a bias depends on s - t alone, so it is looked up once per distance and not once per pair.
T query position · S key position · H head · W distance, from the furthest key before a query to the furthest behind.
Read next: ops/attend.py (`Bias`), models/encoder_decoder.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.nn.cost import Cost
from cutaway.ops.visible import Visible


@dataclass(frozen=True, kw_only=True)
class RelativeBias:
    """`causal`: keys behind the query are never asked about, and all buckets are for those before it."""

    heads: int
    causal: bool
    buckets: int = 32
    furthest: int = 128

    def __post_init__(self) -> None:
        at_least(self, 1, "heads")
        exact = self.exact
        if exact < 1 or self.buckets % (2 if self.causal else 4):
            least = 2 if self.causal else 4
            raise BadInput(f"must be a multiple of {least}, is {self.buckets}", field="RelativeBias.buckets")
        if self.furthest <= exact:
            said = f"must be above {exact}, the distances with a bucket each, is {self.furthest}"
            raise BadInput(said, field="RelativeBias.furthest")

    @property
    def exact(self) -> int:
        """Distances 0, 1 ... that have a bucket each: half of a direction's buckets."""
        return self.buckets // 2 if self.causal else self.buckets // 4

    def build(self) -> RelativeBiasModule:
        return RelativeBiasModule(self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        return Cost(parameters=self.buckets * self.heads)

    def bucket(self, distance_W: Tensor) -> Tensor:
        """The bucket of each distance s - t (whole numbers of any shape; below 0 is before the query)."""
        if self.causal:
            side, first, away = self.buckets, 0, (-distance_W).clamp(min=0)
        else:
            side = self.buckets // 2
            first, away = (distance_W > 0).long() * side, distance_W.abs()
        # In float32 and in this order, as models were trained: another rounding moves whole distances one bucket on.
        share = torch.log(away.float() / self.exact) / math.log(self.furthest / self.exact)
        far = (self.exact + (share * (side - self.exact)).long()).clamp(max=side - 1)
        return first + torch.where(away < self.exact, away, far)


class RelativeBiasModule(nn.Module):
    """The rule of a pass -> what to add to its scores. Starts normal with deviation 0.02."""

    def __init__(self, spec: RelativeBias):
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.buckets, spec.heads).normal_(std=0.02))

    def forward(self, see: Visible) -> Distances:
        """`see`: the queries and keys of the pass. Biases are made here and not when the first layer asks: a layer
        that is run again (recomputation) does not make them in its own part of the graph."""
        before, behind = max(see.keys, default=1), max(see.queries, default=1)
        distance_W = torch.arange(1 - before, max(behind, 1), device=self.weight.device)
        distances = Distances(self.weight[self.spec.bucket(distance_W)].T, before - 1)
        for queries, keys in set(zip(see.queries, see.keys, strict=True)):
            distances.rectangle(queries, keys)
        return distances

    def extra_repr(self) -> str:
        return f"{self.spec.buckets} buckets x {self.spec.heads} heads, {'causal' if self.spec.causal else 'both ways'}"


class Distances:
    """The biases of one pass. `bias_HW[:, zero + d]` is that of a key d positions behind its query."""

    def __init__(self, bias_HW: Tensor, zero: int):
        self.bias_HW, self.zero = bias_HW, zero
        self._rectangles: dict[tuple[int, int], Tensor] = {}

    def __call__(self, see: Visible) -> Callable[[int], Tensor]:
        return lambda index: self.rectangle(see.queries[index], see.keys[index])

    def rectangle(self, queries: int, keys: int) -> Tensor:
        """(H, T, S) where the queries are the last of the keys. Made once: all layers read the same."""
        if not queries:
            return self.bias_HW.new_zeros(self.bias_HW.shape[0], 0, keys)
        if (queries, keys) not in self._rectangles:
            # Row t begins at distance -(S - T + t): each row is the window before that of the row above it.
            strip_HW = self.bias_HW.narrow(1, self.zero - keys + 1, keys + queries - 1)
            self._rectangles[queries, keys] = strip_HW.unfold(1, keys, 1).flip(1)
        return self._rectangles[queries, keys]
