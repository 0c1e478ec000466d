"""A mixture of experts as kernels: the choice of experts, each one's products with its own tokens, and their sum.

    y_n = sum_j weight_nj W_{chosen_nj} x_n       (Shazeer et al. 2017, arXiv 1701.06538, equation 1)
Rules of choice and their papers: nn/experts/routers.py, nn/experts/groups.py. Which rows an expert gets is decided
while a list runs: its products stand in the list, and are told each time how many rows they have, perhaps none.
N tokens, flat · J place among a token's chosen experts · E expert · C columns (inputs) · R rows (outputs).
Read next: ops/cpu/experts.cpp, infer/kernel_experts.py
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.list import (
    Activations,
    Laid,
    Operations,
    Output,
    Product,
    address,
    alone,
    floats,
    pointer,
    whole,
)
from cutaway.ops.cpu.pack import Strips

# In the order of experts.cpp's enum.
RULES = ("softmax then top", "top then softmax", "sigmoid then top")

MOST = 1024
"""Experts that experts.cpp has room for."""


class Route(Structure):
    """The arguments of `route` (experts.cpp)."""

    _fields_ = (
        *((name, c_void_p) for name in ("logits", "bias", "chosen", "weights")),
        *((name, c_int32) for name in ("count", "experts", "top_k", "rule", "renormalise")),
        *((name, c_int32) for name in ("groups", "top_groups", "two")),
        ("scale", c_float),
    )


class Portion(Structure):
    """A product of one expert."""

    _fields_ = (("product", c_void_p), ("all", Activations), ("y", c_void_p), ("expert", c_int32))


class Share(Structure):
    """The arguments of `share` (experts.cpp)."""

    _fields_ = (
        *((name, c_void_p) for name in ("chosen", "order", "where", "starts", "tiles", "portions")),
        *((name, c_int32) for name in ("count", "top_k", "experts", "portions_count")),
    )


class Gather(Structure):
    """The arguments of `gather` (experts.cpp)."""

    _fields_ = (
        *((name, c_void_p) for name in ("x", "order", "starts", "tiles")),
        ("all", Activations),
        ("row", c_int64),
        ("experts", c_int32),
    )


class Combine(Structure):
    """The arguments of `combine` (experts.cpp)."""

    _fields_ = (
        *((name, c_void_p) for name in ("made", "where", "weights", "y")),
        *((name, c_int32) for name in ("count", "top_k", "width", "adds")),
    )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`rule`: one of RULES. `groups`: how many there are (0: none), how many of them a token may use, and whether a
    group is worth its two best experts rather than its best."""

    rule: str
    top_k: int
    renormalise: bool = False
    scale: float = 1.0
    groups: tuple[int, int, bool] = (0, 0, False)


class Chosen:
    """Room for what is chosen for N tokens: `chosen` (N, J) int32, `weights` (N, J); and how rows lie by experts."""

    def __init__(self, tokens: int, top_k: int, experts: int):
        self.tokens, self.top_k, self.experts = tokens, top_k, experts
        self.chosen = torch.zeros(tokens, top_k, dtype=torch.int32)
        self.weights = torch.zeros(tokens, top_k)
        self.order, self.where = (torch.zeros(tokens * top_k, dtype=torch.int32) for _ in range(2))
        self.starts, self.tiles = (torch.zeros(experts + 1, dtype=torch.int32) for _ in range(2))

    def route(self, logits_NE: Tensor, choice: Choice, bias_E: Tensor | None) -> Route:
        """The arguments of `route`."""
        return Route(
            *map(pointer, (logits_NE, bias_E, self.chosen, self.weights)),
            *(self.tokens, self.experts, self.top_k, RULES.index(choice.rule), choice.renormalise),
            *(*choice.groups, choice.scale),
        )

    def share(self, portions: Sequence[Portion]) -> tuple[Share, ctypes.Array[Portion]]:
        """The arguments of `share`, and what they point to."""
        held = (Portion * len(portions))(*portions)
        named = map(pointer, (self.chosen, self.order, self.where, self.starts, self.tiles))
        counts = self.tokens, self.top_k, self.experts, len(portions)
        return Share(*named, ctypes.addressof(held), *counts), held

    def gather(self, x_NC: Tensor, laid: Laid, *, tokens: bool) -> Gather:
        """The arguments of `gather`: rows are those of tokens, or already lie by experts."""
        order = self.order if tokens else None
        named = map(pointer, (x_NC, order, self.starts, self.tiles))
        return Gather(*named, laid.structure, x_NC.stride(0), self.experts)

    def combine(self, made: Tensor, y_NR: Tensor, *, add: bool) -> Combine:
        """The arguments of `combine`."""
        named = map(pointer, (made, self.where, self.weights, y_NR))
        return Combine(*named, self.tokens, self.top_k, y_NR.shape[1], add)

    @property
    def filled(self) -> int:
        """Rows that there has to be room for as tiles: each expert's last tile is filled up, by a third at most."""
        return 2 * self.tokens * self.top_k


def portion(expert: int, product: Product, laid: Laid, y: Tensor) -> Portion:
    """An expert's product with its share of the rows that are laid out; results begin where `y` does."""
    return Portion(address(product), laid.structure, y.data_ptr(), expert)


def route_readable(logits_NE: Tensor, choice: Choice, bias_E: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The experts chosen (N, J), the best first, and what their outputs are multiplied by (N, J)."""
    likely_NE = logits_NE.sigmoid() if choice.rule == RULES[2] else logits_NE.softmax(-1)
    scores_NE = logits_NE if choice.rule == RULES[1] else likely_NE
    scores_NE = scores_NE if bias_E is None else scores_NE + bias_E
    groups, top_groups, two = choice.groups
    if groups:
        best = scores_NE.unflatten(-1, (groups, -1)).topk(2 if two else 1, dim=-1).values.sum(-1)
        kept = torch.zeros_like(best, dtype=torch.bool).scatter_(-1, best.topk(top_groups, dim=-1).indices, True)
        size = logits_NE.shape[1] // groups
        scores_NE = scores_NE.masked_fill(~kept.repeat_interleave(size, -1), float("-inf"))
    chosen_NJ = scores_NE.topk(choice.top_k, dim=-1).indices
    weights_NJ = likely_NE.gather(-1, chosen_NJ)
    if choice.renormalise or choice.rule == RULES[1]:
        weights_NJ = weights_NJ / (weights_NJ.sum(-1, keepdim=True) + 1e-20)
    return chosen_NJ, weights_NJ * choice.scale


def route_kernel(logits_NE: Tensor, choice: Choice, bias_E: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The same by the kernel, in float32. Raises NoKernels where there are none."""
    if logits_NE.shape[1] > MOST:
        raise BadInput(f"{logits_NE.shape[1]} experts are more than {MOST}", field="logits_NE")
    logits_NE, bias_E = floats(logits_NE), None if bias_E is None else floats(bias_E)
    made = Chosen(len(logits_NE), choice.top_k, logits_NE.shape[1])
    alone("route", made.route(logits_NE, choice, bias_E))
    return made.chosen.long(), made.weights


def gathered_readable(x_NC: Tensor, chosen_NJ: Tensor, weights_NJ: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """y (N, R): for each token the sum of its chosen experts' products, by weight; matrices (R, C), one an expert."""
    rows = zip(x_NC, chosen_NJ.tolist(), strict=True)
    made_NJR = torch.stack([torch.stack([matrices[expert] @ x_C for expert in chosen_J]) for x_C, chosen_J in rows])
    return (made_NJR * weights_NJ[..., None]).sum(1)


def gathered_kernel(
    x_NC: Tensor, chosen_NJ: Tensor, weights_NJ: Tensor, matrices: Sequence[Strips], *, int8: bool = False
) -> Tensor:
    """The same by kernels, in float32 or with int8 activations. Raises NoKernels where there are none."""
    x_NC, (tokens, top_k), rows = floats(x_NC), chosen_NJ.shape, matrices[0].rows
    made = Chosen(tokens, top_k, len(matrices))
    made.chosen.copy_(whole(chosen_NJ))
    made.weights.copy_(floats(weights_NJ))
    laid, y_NR = Laid(made.filled, x_NC.shape[1], int8=int8), torch.empty(tokens, rows)
    parts = torch.empty(tokens * top_k, rows)
    products = [Product(one.struct, laid.structure, Output(None, rows, None, False)) for one in matrices]
    told, held = made.share([portion(expert, one, laid, parts) for expert, one in enumerate(products)])
    operations = Operations()
    operations.append("share", told, held)
    operations.append("gather", made.gather(x_NC, laid, tokens=True))
    operations.together("product", products)
    operations.append("combine", made.combine(parts, y_NR, add=False))
    operations.run()
    return y_NR
