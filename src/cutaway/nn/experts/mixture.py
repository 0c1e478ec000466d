"""Mixture of experts: many feeds of which each token uses few. Parameters grow, arithmetic a token does not.

Shazeer et al. 2017 (arXiv 1701.06538), section 2; shared experts: DeepSeekMoE (arXiv 2401.06066), equation 9.
    y = sum over chosen e of weight_e expert_e(x)  (+ shared(x), which every token uses)
In Qwen2-MoE (arXiv 2407.10671) and Qwen3-Next the shared one is weighed too: sigmoid(w x) shared(x).
An expert is a feed like any other, so that its weights load, start and train as a feed's do. Nothing is dropped.
Departure: several shared experts are one of their joint width, which is the same sum. Packed weights are not made for
experts here: none of our readers of packed files knows them.
N tokens, flat · D model dim · E expert.   Read next: nn/experts/routers.py, ops/dispatch.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.experts.balance import balance_loss, entropy, load, z_loss
from cutaway.nn.experts.routers import Router, RouterModule, check_router, router_cost
from cutaway.nn.experts.routing import Routing
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.linear import Linear
from cutaway.nn.stream import Stream


@dataclass(frozen=True, kw_only=True)
class Experts:
    """`count` feeds like `expert`, of which `router` chooses `router.top_k` for each token. `shared`: a feed that every
    token goes through besides; `shared_gated`: by a weight of its own for each token."""

    count: int
    expert: Gated | Plain
    router: Router
    shared: Gated | Plain | None = None
    shared_gated: bool = False

    def __post_init__(self) -> None:
        at_least(self, 1, "count")
        if self.shared_gated and self.shared is None:
            raise BadInput("there is no shared expert to weigh", field="Experts.shared_gated")
        check_router(self.router, self.count)

    def build(self, dim: int) -> ExpertsFeed:
        return ExpertsFeed(dim, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        """All parameters; the FLOPs of the experts that are used."""
        expert = self.expert.cost(dim, tokens, length)
        total = router_cost(self.router, dim, self.count, tokens)
        total += Cost(parameters=self.count * expert.parameters, flops=self.router.top_k * expert.flops)
        if self.shared_gated:
            total += linear_cost(dim, 1, tokens, bias=False)
        return total if self.shared is None else total + self.shared.cost(dim, tokens, length)

    def active(self, dim: int) -> int:
        """The parameters that one token uses."""
        idle = self.count - self.router.top_k
        return self.cost(dim, 1, 1).parameters - idle * self.expert.cost(dim, 1, 1).parameters

    def streams(self, dim: int) -> tuple[Stream, ...]:
        return ()


class ExpertsFeed(nn.Module):
    """x (N, D) -> (N, D).

    In training, and where "experts" are wanted, it reports `balance` and `z` (the losses, scalars with their gradients)
    and `load_E` (tokens that chose each expert); where wanted also `share_E` (of all choices), `entropy_N` (of each
    token's scores, in nats) and `chosen_NJ`.
    """

    def __init__(self, dim: int, spec: Experts):
        super().__init__()
        self.spec = spec
        self.router = RouterModule(dim, spec.count, spec.router)
        self.experts = nn.ModuleList(spec.expert.build(dim) for _ in range(spec.count))
        self.shared = spec.shared.build(dim) if spec.shared is not None else None
        self.shared_gate = Linear(dim, 1) if spec.shared_gated else None

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        routing = self.router(x_ND)
        calls = [partial(_call, expert, context) for expert in self.experts]
        y_ND = context.forms.dispatch(x_ND, routing.chosen_NJ, routing.weights_NJ, calls)
        if self.shared is not None:
            shared_ND = _call(self.shared, context, x_ND)
            if self.shared_gate is not None:
                shared_ND = self.shared_gate(x_ND, context).sigmoid() * shared_ND
            y_ND = y_ND + shared_ND
        return y_ND, self._report(routing, wanted="experts" in context.want)

    def _report(self, routing: Routing, wanted: bool) -> dict[str, Any]:
        if not (self.training or wanted):
            return {}
        load_E = load(routing.chosen_NJ, self.spec.count)
        report: dict[str, Any] = {"balance": balance_loss(routing), "z": z_loss(routing), "load_E": load_E}
        if wanted:
            report["share_E"] = load_E / max(routing.chosen_NJ.numel(), 1)
            report["entropy_N"] = entropy(routing.likely_NE.detach())
            report["chosen_NJ"] = routing.chosen_NJ
        return report


def _call(feed: nn.Module, context: Context, x_nD: Tensor) -> Tensor:
    return feed(x_nD, context)[0]
