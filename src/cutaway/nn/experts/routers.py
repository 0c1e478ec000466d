"""Routers: a linear score for each expert, and a rule that makes choices and weights of the scores.

softmax, then top-k   Shazeer et al. 2017; Switch (arXiv 2101.03961); DeepSeek-V2; Qwen3:   p = softmax(W x), the k best
top-k, then softmax   Mixtral (arXiv 2401.04088), section 2.1:   softmax(the k best of W x)
sigmoid, with a bias  DeepSeek-V3 (arXiv 2412.19437), section 2.1.2; Wang et al. 2024 (arXiv 2408.15664), equation 3:
    s = sigmoid(W x);   the k best of s + b are chosen;   weights are made of s alone
Renormalised, the first is the second. The scores are worked out in float32 at least, also where x is narrower: rounded
logits choose other experts (ST-MoE, arXiv 2202.08906, section 3.4).
Departure: no noise (Shazeer) and no jitter (Switch, Mixtral's `router_jitter_noise`) in training.
N tokens, flat · J place among a token's chosen experts · D model dim · E expert.
Read next: nn/experts/balance.py, nn/experts/mixture.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.routing import Routing


@dataclass(frozen=True, kw_only=True)
class SoftmaxTopK:
    """The `top_k` likeliest experts, by their probabilities. `renormalise`: weights are made to add up to 1; `scale`:
    what they are multiplied by in the end; `groups`: those the choice is limited to."""

    biased: ClassVar[bool] = False
    top_k: int
    renormalise: bool = False
    scale: float = 1.0
    groups: Groups | None = None

    def __post_init__(self) -> None:
        _check(self, self.scale)

    def route(self, logits_NE: Tensor, bias_E: Tensor | None = None) -> Routing:
        likely_NE = logits_NE.softmax(-1)
        chosen_NJ = best(likely_NE, self.top_k, self.groups)
        weights_NJ = weigh(likely_NE, chosen_NJ, renormalise=self.renormalise, scale=self.scale)
        return Routing(chosen_NJ=chosen_NJ, weights_NJ=weights_NJ, logits_NE=logits_NE, likely_NE=likely_NE)


@dataclass(frozen=True, kw_only=True)
class TopKSoftmax:
    """The `top_k` experts with the largest logits, by the softmax over these alone."""

    biased: ClassVar[bool] = False
    groups: ClassVar[None] = None
    top_k: int

    def __post_init__(self) -> None:
        _check(self)

    def route(self, logits_NE: Tensor, bias_E: Tensor | None = None) -> Routing:
        found = logits_NE.topk(self.top_k, dim=-1)
        return Routing(
            chosen_NJ=found.indices,
            weights_NJ=found.values.softmax(-1),
            logits_NE=logits_NE,
            likely_NE=logits_NE.softmax(-1),
        )


@dataclass(frozen=True, kw_only=True)
class SigmoidTopK:
    """Each expert's score by itself. A bias that no gradient reaches shifts the choice, not the weights: it is a
    parameter `router.bias`, moved between steps by `nn.experts.balance.nudged` (see train/loss_free.py)."""

    biased: ClassVar[bool] = True
    top_k: int
    renormalise: bool = True
    scale: float = 1.0
    groups: Groups | None = None

    def __post_init__(self) -> None:
        _check(self, self.scale)

    def route(self, logits_NE: Tensor, bias_E: Tensor | None = None) -> Routing:
        scores_NE = logits_NE.sigmoid()
        chosen_NJ = best(scores_NE if bias_E is None else scores_NE + bias_E, self.top_k, self.groups)
        weights_NJ = weigh(scores_NE, chosen_NJ, renormalise=self.renormalise, scale=self.scale)
        likely_NE = scores_NE / (scores_NE.sum(-1, keepdim=True) + TINY)
        return Routing(chosen_NJ=chosen_NJ, weights_NJ=weights_NJ, logits_NE=logits_NE, likely_NE=likely_NE)


Router = SoftmaxTopK | TopKSoftmax | SigmoidTopK

TINY = 1e-20  # DeepSeek-V3's: no sum that is divided by is 0


def _check(router: Router, scale: float = 1.0) -> None:
    name = type(router).__name__
    at_least(router, 1, "top_k")
    if not 0.0 < scale < float("inf"):
        raise BadInput(f"must be above 0, is {scale}", field=f"{name}.scale")


def check_router(router: Router, experts: int) -> None:
    """Raises BadInput where the router cannot choose among so many experts."""
    if router.top_k > experts:
        said = f"{router.top_k} of {experts} experts cannot be chosen"
        raise BadInput(said, field=f"{type(router).__name__}.top_k")
    if router.groups is not None:
        router.groups.check(experts, router.top_k)


def router_cost(router: Router, dim: int, experts: int, tokens: int) -> Cost:
    """One linear map, and the bias that shifts the choice."""
    return linear_cost(dim, experts, tokens, bias=False) + Cost(parameters=experts * router.biased)


def best(scores_NE: Tensor, top_k: int, groups: Groups | None) -> Tensor:
    """The indices (N, J) of each token's largest scores, within the groups that it may use."""
    if groups is not None:
        scores_NE = scores_NE.masked_fill(~groups.allowed(scores_NE), float("-inf"))
    return scores_NE.topk(top_k, dim=-1).indices


def weigh(scores_NE: Tensor, chosen_NJ: Tensor, *, renormalise: bool, scale: float) -> Tensor:
    """The chosen experts' scores (N, J), made to add up to 1 if asked, times `scale`."""
    weights_NJ = scores_NE.gather(-1, chosen_NJ)
    if renormalise:
        weights_NJ = weights_NJ / (weights_NJ.sum(-1, keepdim=True) + TINY)
    return weights_NJ * scale if scale != 1.0 else weights_NJ


class RouterModule(nn.Module):
    """x (N, D) -> a Routing of its N tokens."""

    def __init__(self, dim: int, experts: int, rule: Router):
        super().__init__()
        self.rule = rule
        self.weight = nn.Parameter(torch.empty(experts, dim).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(experts), requires_grad=False) if rule.biased else None

    def forward(self, x_ND: Tensor) -> Routing:
        wide = torch.promote_types(x_ND.dtype, torch.float32)
        if not x_ND.is_meta and torch.is_autocast_enabled(x_ND.device.type):
            with torch.autocast(x_ND.device.type, enabled=False):
                return self._route(x_ND.to(wide))
        return self._route(x_ND.to(wide))

    def _route(self, x_ND: Tensor) -> Routing:
        return self.rule.route(F.linear(x_ND, self.weight.to(x_ND.dtype)), self.bias)

    def extra_repr(self) -> str:
        experts, dim = self.weight.shape
        return f"{dim} -> {self.rule.top_k} of {experts} experts"
