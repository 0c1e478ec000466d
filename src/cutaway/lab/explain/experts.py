"""Mixtures of experts explained.   Read next: nn/experts/mixture.py"""

from __future__ import annotations

from typing import Any

from cutaway.lab.explain.explanation import Explanation, Formula


def _made(router: Any = None) -> Any:
    """Eight experts, each as wide as the model's own feed-forward, of which a token uses two."""
    from cutaway.lab.explain.example import FEED
    from cutaway.nn.experts.mixture import Experts
    from cutaway.nn.experts.routers import SoftmaxTopK

    return Experts(count=8, expert=FEED, router=router or SoftmaxTopK(top_k=2, renormalise=True))


def _experts() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    mixture = _made()
    cost = mixture.cost(SMOLLM2.dim, 1, 1)
    return (
        Formula(what="parameters of 8 experts, one block's", symbols="8·3·D·F + 8·D", result=cost.parameters),
        Formula(what="those that a token uses, 2 of 8", symbols="2·3·D·F + 8·D", result=mixture.active(SMOLLM2.dim)),
        Formula(what="FLOPs per token", symbols="2·6·D·F + 2·8·D", result=cost.flops),
    )


def _router() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.nn.experts.routers import router_cost

    mixture = _made()
    cost = router_cost(mixture.router, SMOLLM2.dim, mixture.count, 1)
    return (
        Formula(what="parameters for 8 experts", symbols="8·D", result=cost.parameters),
        Formula(what="FLOPs per token", symbols="2·8·D", result=cost.flops),
    )


def _balancing() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.nn.experts.routers import SigmoidTopK

    plain = _made().cost(SMOLLM2.dim, 1, 1).parameters
    biased = _made(SigmoidTopK(top_k=2)).cost(SMOLLM2.dim, 1, 1).parameters
    return (
        Formula(what="numbers more, by a loss", symbols="0", result=0),
        Formula(what="by a bias for each of 8 experts", symbols="8", result=biased - plain),
    )


MIXTURE = Explanation(
    name="experts",
    title="Mixture of experts (MoE)",
    what=(
        "Instead of one feed-forward a block has many, the experts, and each token goes through a few of them only. "
        "The model knows as much as all its parameters can hold and computes as little as those that are used. A "
        "router chooses, and the chosen experts' results are added with its weights. Shared experts are those that "
        "every token uses beside its own; what all need is learned once there. Memory is the price: all experts have "
        "to be there, used or not. Here no token is ever dropped for want of room."
    ),
    equation="y = Σ over chosen e of  weight_e · expert_e(x)   (+ shared(x))",
    papers=(
        "Shazeer et al. 2017, Outrageously Large Neural Networks, arXiv 1701.06538",
        "Jiang et al. 2024, Mixtral, arXiv 2401.04088",
        "Dai et al. 2024, DeepSeekMoE, arXiv 2401.06066",
    ),
    files=("nn/experts/mixture.py", "ops/dispatch.py"),
    cost=_experts,
    read_next=("router", "balancing", "gated"),
    aliases=("moe", "mixture-of-experts", "expert", "shared-experts", "mixtral"),
)

ROUTER = Explanation(
    name="router",
    title="Router",
    what=(
        "A router is one linear map: a score for each expert. Three rules make choices of scores. Softmax over all, "
        "then the k likeliest, whose probabilities are the weights; or the k largest scores first and softmax among "
        "them (Mixtral), which is the same once the weights are made to add up to one. Or a sigmoid for each expert by "
        "itself (DeepSeek-V3), with a bias that shifts the choice but not the weights. With groups, a token's experts "
        "come from a few groups only, so that it travels to few devices. Scores are worked out in float32: rounding "
        "them chooses other experts."
    ),
    equation=(
        "softmax, then top-k:   p = softmax(W x);  the k largest p\n"
        "top-k, then softmax:   softmax(the k largest of W x)\n"
        "sigmoid with a bias:   s = sigmoid(W x);  the k largest s + b, weights s / Σ s"
    ),
    papers=(
        "Fedus, Zoph and Shazeer 2021, Switch Transformers, arXiv 2101.03961",
        "DeepSeek-AI 2024, DeepSeek-V3, arXiv 2412.19437, section 2.1.2",
    ),
    files=("nn/experts/routers.py", "nn/experts/groups.py"),
    cost=_router,
    read_next=("experts", "balancing"),
    aliases=("routers", "routing", "gating", "gate-network", "grouped-routing"),
)

BALANCING = Explanation(
    name="balancing",
    title="Balancing experts",
    what=(
        "An expert that is chosen learns, and what has learned is chosen again: left alone, a router sends everything "
        "to a few experts, and the others starve. The usual remedy is a loss that is smallest when choices and "
        "probabilities are spread evenly; its gradient pulls against the model's own. The loss-free way gives each "
        "expert a bias that only shifts choices: up a little after a step in which it had too few tokens, down after "
        "too many. The z-loss keeps the router's scores small, so that rounding does not change choices. `cutaway "
        "reproduce moe-balance` shows all of it."
    ),
    equation=(
        "loss:       weight · E · Σ_e  share_e · mean p_e      weight where all are even\n"
        "loss-free:  b_e = b_e + rate · sign(mean load - load_e)\n"
        "MaxVio:     max load / mean load - 1                  0 where all are even"
    ),
    papers=(
        "Fedus, Zoph and Shazeer 2021, Switch Transformers, arXiv 2101.03961, section 2.2",
        "Wang et al. 2024, Auxiliary-loss-free load balancing, arXiv 2408.15664",
        "Zoph et al. 2022, ST-MoE (z-loss), arXiv 2202.08906",
    ),
    files=("nn/experts/balance.py", "train/loss_free.py", "train/objectives/balanced.py"),
    cost=_balancing,
    read_next=("router", "experts", "z-loss"),
    aliases=("load-balancing", "balance", "loss-free", "load-balance-loss", "aux-loss", "auxiliary-loss"),
)

MIXTURES = (MIXTURE, ROUTER, BALANCING)
