"""`ops.dispatch` as a part to replace: which expert meets which token, and what its output is weighed by.

Experts that answer with their own number show who was asked; weights that are moved one at a time show whose they are.
N tokens, flat · J place among a token's chosen experts · D model dim.   Read next: ops/dispatch.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutaway.lab.swap.general import form_probes
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.sight import normal
from cutaway.lab.swap.trial import Trial, attempt, close
from cutaway.lab.swap.verdict import Case
from cutaway.ops.dispatch import Expert, dispatch_readable

CHOICES: tuple[tuple[int, list[list[int]]], ...] = (
    (1, [[0]]),
    (2, [[1]]),
    (2, [[1, 0], [0, 1]]),
    (4, [[3, 1], [1, 0], [3, 0], [1, 3]]),  # nobody goes to 2
    (3, [[2, 0, 1]] * 5),
    (4, [[3], [3], [3]]),
)


def bent(count: int) -> list[Expert]:
    """Experts that differ, and bend what they are given."""
    matrices = [normal(3, 3, seed=index + 20) for index in range(count)]
    return [lambda x_nD, one=one: torch.tanh(x_nD @ one.to(x_nD.dtype)) for one in matrices]


def _loops(x: Tensor, chosen: Tensor, weights: Tensor, experts: Sequence[Expert]) -> Tensor:
    rows = []
    for n, row_D in enumerate(x):
        total = torch.zeros_like(row_D)
        for j, expert in enumerate(chosen[n].tolist()):
            total = total + weights[n, j] * experts[expert](row_D[None])[0]
        rows.append(total)
    return torch.stack(rows) if rows else torch.zeros_like(x)


def trials(candidate: Candidate) -> Sequence[Callable[[], Case | None]]:
    made = []
    for count, chosen in CHOICES:
        inputs = {"x": normal(len(chosen), 3, seed=1).double(), "chosen": torch.tensor(chosen)}
        inputs |= {"weights": normal(*inputs["chosen"].shape, seed=2).double(), "experts": bent(count)}
        what = f"{len(chosen)} tokens, each to {len(chosen[0])} of {count} experts"
        made.append(Trial(what=what, inputs=inputs, oracle=_loops, smooth=_loops, learned=("x", "weights")))
    none = torch.zeros(0, 2, dtype=torch.long)
    inputs = {"x": normal(0, 3).double(), "chosen": none, "weights": normal(0, 2).double(), "experts": bent(2)}
    made.append(Trial(what="no tokens", inputs=inputs, oracle=_loops))
    return [partial(attempt, one, candidate) for one in made]


def _numbered(count: int) -> list[Expert]:
    """Expert e answers 10^e, whatever it is asked."""
    return [lambda x_nD, number=10.0**index: torch.full_like(x_nD, number) for index in range(count)]


def _asked(dispatch: Candidate) -> str | None:
    """By experts of which one alone answers anything."""
    chosen = torch.tensor([[2, 0], [1, 2], [0, 3], [3, 1]])
    for index in range(4):
        experts: list[Expert] = [
            lambda x_nD, size=float(other == index): torch.full_like(x_nD, size) for other in range(4)
        ]
        got = dispatch(torch.ones(4, 1), chosen, torch.ones(4, 2), experts)[:, 0].nonzero().flatten().tolist()
        right = (chosen == index).any(-1).nonzero().flatten().tolist()
        if got != right:
            return f"expert {index} answers tokens {got}, and was chosen by {right}"
    return None


def _whose(dispatch: Candidate) -> str | None:
    """Every weight multiplies its own expert's output."""
    chosen, weights = torch.tensor([[2, 0], [1, 2]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    got = dispatch(torch.ones(2, 1), chosen, weights, _numbered(3))[:, 0]
    right = (weights * 10.0 ** chosen.float()).sum(-1)
    if close(got, right, 1e-3):
        return None
    if close(got, (10.0 ** chosen.float()).sum(-1), 1e-3):
        return "the weights are ignored"
    if close(got, (weights.flip(-1) * 10.0 ** chosen.float()).sum(-1), 1e-3):
        return "a token's weights are exchanged among its experts"
    if close(got, (weights.softmax(-1) * 10.0 ** chosen.float()).sum(-1), 1e-3):
        return "the weights go through a softmax once more"
    if close(got, (weights / weights.sum(-1, keepdim=True) * 10.0 ** chosen.float()).sum(-1), 1e-3):
        return "the weights are made to sum to 1: that was the router's to do"
    return f"experts answer 10^e, and a token with weights 1 and 2 for 2 and 0 comes to {float(got[0]):g}, not 102"


def _own(dispatch: Candidate) -> str | None:
    """A token's answer is made of its own numbers."""
    x, chosen, weights = normal(4, 3, seed=3), torch.tensor([[0, 1], [1, 0], [1, 2], [2, 0]]), normal(4, 2, seed=4)
    other = x.clone()
    other[2] += 1.0
    change_N = (dispatch(x, chosen, weights, bent(3)) - dispatch(other, chosen, weights, bent(3))).abs().amax(-1) > 1e-5
    if change_N.tolist() == [False, False, True, False]:
        return None
    return f"another token 2 changes the answers of tokens {change_N.nonzero().flatten().tolist()}"


def _before(dispatch: Candidate) -> str | None:
    """Weights multiply what comes out of an expert, not what goes in."""
    x, chosen = normal(2, 3, seed=5), torch.tensor([[0], [1]])
    one, twice = (dispatch(x, chosen, torch.full((2, 1), size), bent(2)) for size in (1.0, 2.0))
    if close(twice, one):
        return None  # they do not count, which their own probe says
    return (
        None if close(twice, 2 * one) else "the weight goes into the expert: twice the weight is not twice the answer"
    )


def _call(dispatch: Candidate, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (normal(3, 3).to(dtype), torch.tensor([[0, 1], [1, 0], [1, 0]]), normal(3, 2, seed=1).to(dtype), bent(2)), {}


PART = Part(
    name="ops.dispatch",
    about="each token to its experts, and their outputs back by weight",
    ours=dispatch_readable,
    positional=4,
    optional={},
    trials=trials,
    probes=(
        *form_probes(_call, dispatch_readable, tensors=1, rows=3),
        Probe(property="which experts", find=_asked),
        Probe(property="weights come after", find=_before),
        Probe(property="whose weight", find=_whose),
        Probe(property="each token's own", find=_own),
    ),
    place="dispatch",
    bench=lambda: ((normal(128, 3), torch.tensor([[0, 1], [2, 3]] * 64), normal(128, 2), bent(4)), {}),
)
