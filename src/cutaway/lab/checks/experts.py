"""Checks of mixtures of experts, and of the dispatch inside them: oracles token by token, gradients, laws, costs.

A maker has the signature of `nn.experts.mixture.Experts`; its modules name their weights as ours do. Choices are not
differentiable: the oracle makes them once, and slopes are taken along them.
N tokens, flat · J place among a token's chosen experts · D model dim · F hidden dim · E expert
Read next: nn/experts/mixture.py, ops/dispatch.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cutaway.lab.checks.feedforward import Weights, gated_oracle, plain_oracle
from cutaway.lab.checks.parity import compare, expect, expect_close, random
from cutaway.nn.context import Context
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.routers import Router, SigmoidTopK, SoftmaxTopK, TopKSoftmax
from cutaway.nn.feedforward import Gated, Plain
from cutaway.ops.forms import FAST, READABLE, Forms

Maker = Callable[..., Any]

DIM, TOKENS = 3, 4
ROUTERS: tuple[tuple[int, Router], ...] = (
    (6, SigmoidTopK(top_k=3, groups=Groups(count=3, top_k=2, worth="best two"), renormalise=False)),
    (1, SoftmaxTopK(top_k=1)),
    (4, SoftmaxTopK(top_k=2)),
    (5, SoftmaxTopK(top_k=3, renormalise=True, scale=1.5)),
    (6, SoftmaxTopK(top_k=2, groups=Groups(count=3, top_k=1), scale=4.0)),
    (4, TopKSoftmax(top_k=2)),
    (3, TopKSoftmax(top_k=3)),
    (4, SigmoidTopK(top_k=2)),
    (6, SigmoidTopK(top_k=2, groups=Groups(count=2, top_k=1, worth="best two"), scale=2.5)),
)


def choice_oracle(logits_E: list[float], bias_E: list[float], router: Router) -> list[int]:
    """The experts of one token, the best first."""
    scores = _scores(logits_E, router)
    if router.biased:
        scores = [score + bias for score, bias in zip(scores, bias_E, strict=True)]
    allowed = set(range(len(scores)))
    if router.groups is not None:
        size = len(scores) // router.groups.count
        best = 1 if router.groups.worth == "best" else 2
        worths = []
        for group in range(router.groups.count):
            inside = sorted(scores[group * size : (group + 1) * size], reverse=True)
            worths.append(sum(inside[:best]))
        kept = sorted(range(len(worths)), key=lambda group: -worths[group])[: router.groups.top_k]
        allowed = {index for index in allowed if index // size in kept}
    return sorted(allowed, key=lambda index: -scores[index])[: router.top_k]


def weight_oracle(logits_E: list[float], chosen_J: list[int], router: Router) -> list[float]:
    """What the outputs of one token's experts are multiplied by."""
    if isinstance(router, TopKSoftmax):
        exponentials = [math.exp(logits_E[index]) for index in chosen_J]
        return [one / sum(exponentials) for one in exponentials]
    scores = _scores(logits_E, router)
    found = [scores[index] for index in chosen_J]
    whole = sum(found) if router.renormalise else 1.0
    return [router.scale * one / whole for one in found]


def _scores(logits_E: list[float], router: Router) -> list[float]:
    if isinstance(router, SigmoidTopK):
        return [1 / (1 + math.exp(-logit)) for logit in logits_E]
    return [math.exp(logit) / sum(map(math.exp, logits_E)) for logit in logits_E]


def logits_oracle(x: np.ndarray, weights: Weights) -> list[list[float]]:
    matrix = weights["router.weight"]
    return [[sum(float(a) * float(b) for a, b in zip(row, one, strict=True)) for one in matrix] for row in x]


def experts_oracle(x: np.ndarray, weights: Weights, chosen_NJ: list[list[int]], value: Any) -> np.ndarray:
    """y (N, D), then the two losses, all in one row of numbers."""
    y, logits_NE = np.zeros_like(x), logits_oracle(x, weights)
    for n, (logits_E, chosen_J) in enumerate(zip(logits_NE, chosen_NJ, strict=True)):
        for index, weight in zip(chosen_J, weight_oracle(logits_E, chosen_J, value.router), strict=True):
            y[n] += weight * _feed(x[n : n + 1], weights, f"experts.{index}.", value.expert)[0]
        if value.shared is not None:
            shared = _feed(x[n : n + 1], weights, "shared.", value.shared)[0]
            if value.shared_gated:
                shared = shared / (1 + math.exp(-float(weights["shared_gate.weight"][0] @ x[n])))
            y[n] += shared
    return np.concatenate([y.ravel(), losses_oracle(logits_NE, chosen_NJ, value.router)])


def losses_oracle(logits_NE: list[list[float]], chosen_NJ: list[list[int]], router: Router) -> np.ndarray:
    """The load-balance loss and the z-loss."""
    experts, tokens = len(logits_NE[0]), len(logits_NE)
    balance = squares = 0.0
    for expert in range(experts):
        share = sum(expert in chosen_J for chosen_J in chosen_NJ) / sum(len(chosen_J) for chosen_J in chosen_NJ)
        likely = [_scores(logits_E, router)[expert] / sum(_scores(logits_E, router)) for logits_E in logits_NE]
        balance += experts * share * sum(likely) / tokens
    for logits_E in logits_NE:
        squares += math.log(sum(map(math.exp, logits_E))) ** 2
    return np.array([balance, squares / tokens])


def _feed(x: np.ndarray, weights: Weights, prefix: str, feed: Gated | Plain) -> np.ndarray:
    own = {name.removeprefix(prefix): one for name, one in weights.items() if name.startswith(prefix)}
    return (gated_oracle if isinstance(feed, Gated) else plain_oracle)(x, own, feed.activation)


def check_experts(make: Maker, forms: Forms = FAST) -> None:
    """Raises AssertionError, saying where, if `make(count=, expert=, router=, shared=, shared_gated=)` builds something
    else."""
    for index, (count, router) in enumerate(ROUTERS):
        expert = Gated(hidden=2) if index % 2 else Plain(hidden=2, activation="gelu")
        shared = None if index % 3 else Gated(hidden=4)
        value = make(count=count, expert=expert, router=router, shared=shared, shared_gated=index % 6 == 3)
        module = _random_module(value)
        try:
            _compare_module(module, value, forms)
            _check_cost(value, module)
            _check_laws(module, forms)
        except AssertionError as error:
            raise AssertionError(f"{count} experts, {router}: {error}") from error


def _random_module(value: Any) -> nn.Module:
    """In float64 and in training, so that it reports its losses; with a bias that changes some choices."""
    module = value.build(DIM).double().train()
    for index, parameter in enumerate(module.parameters()):
        parameter.data = random(*parameter.shape, seed=index + 1)
    return module


def _compare_module(module: nn.Module, value: Any, forms: Forms) -> None:
    learned, x_ND = dict(module.named_parameters()), random(TOKENS, DIM, seed=70)
    plain = {name: parameter.detach().numpy() for name, parameter in learned.items()}
    bias_E = plain.get("router.bias", np.zeros(value.count)).tolist()
    chosen_NJ = [choice_oracle(one, bias_E, value.router) for one in logits_oracle(x_ND.numpy(), plain)]
    wanted = Context.of((TOKENS,), forms=forms, want=frozenset({"experts"}))

    def run(x_ND: Tensor, *weights: Tensor) -> Tensor:
        told = dict(zip(learned, weights, strict=True))
        y_ND, report = torch.func.functional_call(module, told, (x_ND, wanted))
        return torch.cat([y_ND.flatten(), report["balance"][None], report["z"][None]])

    def slow(x: np.ndarray, *weights: np.ndarray) -> np.ndarray:
        return experts_oracle(x, dict(zip(learned, weights, strict=True)), chosen_NJ, value)

    report = module(x_ND, wanted)[1]
    expect_close("chosen experts", report["chosen_NJ"], np.array(chosen_NJ), 0.0)
    _check_statistics(report, x_ND, plain, chosen_NJ, value)
    compare(run, slow, {"x": x_ND, **learned})


def _check_statistics(report: dict[str, Any], x_ND: Tensor, plain: Weights, chosen_NJ: Any, value: Any) -> None:
    load = [sum(expert in chosen_J for chosen_J in chosen_NJ) for expert in range(value.count)]
    expect_close("load", report["load_E"], np.array(load, dtype=float), 0.0)
    # Whole numbers divided in float32: one rounding.
    expect_close("share", report["share_E"], np.array(load) / (TOKENS * value.router.top_k), 1e-7)
    entropies = []
    for logits_E in logits_oracle(x_ND.numpy(), plain):
        scores = _scores(logits_E, value.router)
        entropies.append(-sum(one / sum(scores) * math.log(one / sum(scores)) for one in scores))
    expect_close("entropy", report["entropy_N"], np.array(entropies), 1e-12)
    expect(not any(report[name].requires_grad for name in ("load_E", "share_E", "entropy_N")), "statistics learn")


def _check_cost(value: Any, module: nn.Module) -> None:
    cost, context = value.cost(DIM, 7, 100), Context.of((7,), forms=READABLE)
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    expect(cost.parameters == sum(sizes.values()), f"the cost says {cost.parameters} parameters, not {sizes}")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(random(7, DIM, seed=71), context)
    counted = counter.get_total_flops()
    expect(cost.flops == counted, f"the cost says {cost.flops} FLOPs for 7 tokens, {counted} were counted")
    one = sum(size for name, size in sizes.items() if name.startswith("experts.0."))
    used = sum(sizes.values()) - (value.count - value.router.top_k) * one
    expect(value.active(DIM) == used, f"{value.active(DIM)} parameters are said to be active, {used} are")
    expect(cost.cache_bytes == 0 and value.streams(DIM) == (), "a feed keeps nothing")


@torch.no_grad()
def _check_laws(module: nn.Module, forms: Forms) -> None:
    x_ND, order = random(5, DIM, seed=72), torch.tensor([2, 0, 4, 1, 3])

    def run(x_ND: Tensor) -> Tensor:
        return module(x_ND, Context.of((x_ND.shape[0],), forms=forms))[0]

    still = run(x_ND)
    # A product of other shapes adds up in another order.
    expect_close("law: tokens in another order", run(x_ND[order]), still[order], 1e-12)
    expect_close("law: each token alone", torch.cat([run(row) for row in x_ND.split(1)]), still, 1e-12)
    expect(tuple(run(x_ND[:0]).shape) == (0, DIM), "no tokens are not taken")
    module.eval()
    expect(module(x_ND, Context.of((5,), forms=forms))[1] == {}, "an evaluation that asks nothing gets a report")
    module.train()


def check_dispatch(dispatch: Callable[..., Tensor]) -> None:
    """Raises AssertionError, saying where, if this is no `ops.dispatch`: values, gradients, calls, no tokens."""
    for tokens, chosen_NJ in (
        (1, [[0]]),
        (2, [[1, 0], [0, 1]]),
        (4, [[3, 1], [1, 0], [3, 0], [1, 3]]),  # nobody goes to 2
        (5, [[2, 0, 1]] * 5),
        (3, [[3], [3], [3]]),
    ):
        matrices = random(4, DIM, DIM, seed=tokens)
        inputs = {"x": random(tokens, DIM, seed=80), "w": random(*np.shape(chosen_NJ), seed=81), "matrices": matrices}

        def run(x: Tensor, w: Tensor, matrices: Tensor, chosen: Any = chosen_NJ) -> Tensor:
            experts = [lambda x_nD, one=one: torch.tanh(x_nD @ one) for one in matrices]
            return dispatch(x, torch.tensor(chosen), w, experts)

        def slow(x: np.ndarray, w: np.ndarray, matrices: np.ndarray, chosen: Any = chosen_NJ) -> np.ndarray:
            y = np.zeros_like(x)
            for n, chosen_J in enumerate(chosen):
                for j, expert in enumerate(chosen_J):
                    y[n] += w[n, j] * np.tanh(x[n] @ matrices[expert])
            return y

        compare(run, slow, inputs)
    empty = dispatch(random(0, DIM), torch.zeros(0, 2, dtype=torch.long), random(0, 2), [torch.tanh])
    expect(tuple(empty.shape) == (0, DIM) and empty.dtype == torch.float64, f"no tokens gave {tuple(empty.shape)}")
