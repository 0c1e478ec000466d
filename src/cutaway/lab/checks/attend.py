"""Attention against float64 loops: what `attend` must give, forward and gradient, and what must not reach it.

Vaswani et al. 2017 (arXiv 1706.03762), equation 1, one number at a time.
N tokens, flat · T query position · S key position · H query head · G kv head · K head dim
Read next: ops/attend.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.ops.visible import Visible

Attend = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One shape and rule to try."""

    see: Visible
    heads: int = 2
    groups: int = 1
    width: int = 3
    value_width: int = 3
    scale: float = 0.7
    softcap: float | None = None
    biased: bool = False

    def bias(self, index: int) -> Tensor:
        """Some numbers for each head, query and key of a sequence: (H, T, S)."""
        queries, keys = self.see.queries[index], self.see.keys[index]
        make = torch.Generator().manual_seed(100 * queries + keys)
        return torch.randn(self.heads, queries, keys, generator=make, dtype=torch.float64)


def oracle(q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, case: Case) -> Tensor:
    """The equation in loops over sequences, heads, queries and keys."""
    rows = []
    first_query = first_key = 0
    for index, (queries, keys) in enumerate(zip(case.see.queries, case.see.keys, strict=True)):
        mask_TS, bias_HTS = case.see.mask(index), case.bias(index)
        for t in range(queries):
            heads = []
            for h in range(case.heads):
                g = h * case.groups // case.heads
                scores = []
                for s in range(keys):
                    if not mask_TS[t, s]:
                        continue
                    dot = q_NHK.new_zeros(())
                    for i in range(case.width):
                        dot = dot + q_NHK[first_query + t, h, i] * k_SGK[first_key + s, g, i]
                    score = case.scale * dot
                    if case.softcap is not None:
                        score = case.softcap * torch.tanh(score / case.softcap)
                    if case.biased:
                        score = score + bias_HTS[h, t, s]
                    scores.append((score, v_SGK[first_key + s, g]))
                top = max((float(score.detach()) for score, _ in scores), default=0.0)
                total = sum(torch.exp(score - top) for score, _ in scores)
                heads.append(sum(torch.exp(score - top) / total * value for score, value in scores))
            rows.append(torch.stack([torch.as_tensor(head) for head in heads]))
        first_query, first_key = first_query + queries, first_key + keys
    return torch.stack(rows)


CASES = (
    Case(see=Visible(queries=(5,), keys=(5,))),
    Case(see=Visible(queries=(1,), keys=(6,)), heads=4, groups=2),
    Case(see=Visible(queries=(3,), keys=(7,)), heads=3, groups=1),
    Case(see=Visible(queries=(4, 1, 3), keys=(4, 5, 6)), heads=2, groups=2),
    Case(see=Visible(queries=(3, 3), keys=(3, 3)), heads=4, groups=2, width=5),
    Case(see=Visible(queries=(1, 1), keys=(4, 4)), heads=4, groups=2),
    Case(see=Visible(queries=(6,), keys=(6,), window=2)),
    Case(see=Visible(queries=(1,), keys=(6,), window=3)),
    Case(see=Visible(queries=(4,), keys=(4,), causal=False)),
    Case(see=Visible(queries=(4,), keys=(6,), causal=False, window=2)),
    Case(see=Visible(queries=(5, 2), keys=(5, 4), prefix=(3, 2))),
    Case(see=Visible(queries=(4, 4, 4), keys=(4, 4, 4), prefix=(2, 2, 2))),
    Case(see=Visible(queries=(4, 4, 2, 2), keys=(4, 4, 2, 2), prefix=(3, 0, 2, 1)), heads=4, groups=2),
    Case(see=Visible(queries=(5, 5), keys=(5, 5), prefix=(4, 2), window=3)),
    Case(see=Visible(queries=(2, 2, 1), keys=(5, 5, 5), prefix=(3, 2, 5))),
    Case(see=Visible(queries=(3, 3, 2, 2, 3), keys=(3, 3, 2, 2, 3)), heads=4, groups=2),
    Case(see=Visible(queries=(5,), keys=(5,)), softcap=1.5),
    Case(see=Visible(queries=(4,), keys=(4,)), value_width=2),
    Case(see=Visible(queries=(1, 1), keys=(4, 4)), heads=3, width=4, value_width=3),  # latent attention's, absorbed
    Case(see=Visible(queries=(2, 2, 1), keys=(5, 5, 3)), heads=4, width=4, value_width=1),
    Case(see=Visible(queries=(3,), keys=(2,), causal=False), heads=2, width=2, value_width=4),
    Case(see=Visible(queries=(0, 2), keys=(3, 2))),
    Case(see=Visible(queries=(4, 1, 3), keys=(2, 5, 1), causal=False), heads=4, groups=2),  # another sequence's keys
    Case(see=Visible(queries=(3, 3), keys=(2, 2), causal=False)),
    Case(see=Visible(queries=(5, 2), keys=(5, 4)), biased=True),
    Case(see=Visible(queries=(3, 3), keys=(4, 4)), heads=4, groups=2, biased=True),
    Case(see=Visible(queries=(3, 2), keys=(3, 2), causal=False), biased=True),
    Case(see=Visible(queries=(1, 1), keys=(4, 4)), biased=True),
    Case(see=Visible(queries=(4,), keys=(4,)), softcap=1.5, biased=True),
)


def check_attend(attend: Attend, cases: tuple[Case, ...] = CASES, seed: int = 0) -> None:
    """Raises AssertionError, naming the case, where forward or a gradient differs from the loops."""
    make = torch.Generator().manual_seed(seed)
    for case in cases:
        inputs = _inputs(case, make)
        told = {"bias": case.bias} if case.biased else {}
        ours = attend(*inputs, case.see, scale=case.scale, softcap=case.softcap, **told)
        expected = oracle(*inputs, case)
        _compare(ours, expected, f"{case}: output")
        weight = torch.randn(expected.shape, generator=make, dtype=torch.float64)
        got = torch.autograd.grad((ours * weight).sum(), inputs)
        want = torch.autograd.grad((expected * weight).sum(), inputs)
        for name, one, other in zip("qkv", got, want, strict=True):
            _compare(one, other, f"{case}: gradient of {name}")


def check_large_scores(attend: Attend) -> None:
    """Scores of a thousand must not overflow: the softmax takes their maximum out first."""
    see = Visible(queries=(2,), keys=(2,))
    q_NHK = torch.tensor([[[1000.0]], [[1000.0]]])
    v_SGK = torch.tensor([[[1.0]], [[2.0]]])
    y_NHK = attend(q_NHK, torch.tensor([[[1.0]], [[2.0]]]), v_SGK, see, scale=1.0)
    _compare(y_NHK.double(), v_SGK.double(), "scores of 1000 and 2000")


def check_half(attend: Attend, dtype: torch.dtype) -> None:
    """In half precision the answer keeps its dtype and stays within a few of its steps of the exact one."""
    make = torch.Generator().manual_seed(1)
    case = Case(see=Visible(queries=(5,), keys=(9,)), heads=4, groups=2, width=8, value_width=8, scale=8**-0.5)
    q, k, v = (tensor.detach().to(dtype) for tensor in _inputs(case, make))
    ours = attend(q, k, v, case.see, scale=case.scale)
    assert ours.dtype == dtype, f"gave {ours.dtype} for {dtype}"
    error = float((ours.double() - oracle(q.double(), k.double(), v.double(), case)).abs().max())
    # Values of about 1, weights that sum to 1: each of two roundings is at most half a step.
    bound = 4 * torch.finfo(dtype).eps
    assert error < bound, f"{dtype}: differs by {error:.3g}, more than {bound:.3g}"


def _inputs(case: Case, make: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    shapes = (
        (sum(case.see.queries), case.heads, case.width),
        (sum(case.see.keys), case.groups, case.width),
        (sum(case.see.keys), case.groups, case.value_width),
    )
    made = [torch.randn(shape, generator=make, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return made[0], made[1], made[2]


def _compare(got: Tensor, expected: Tensor, what: str) -> None:
    got, expected = got.detach(), expected.detach()
    assert got.shape == expected.shape, f"{what}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    # Float64 sums of a few dozen terms in another order: some units in the 16th digit.
    if torch.allclose(got, expected, rtol=1e-9, atol=1e-10):
        return
    error = (got - expected).abs().nan_to_num(math.inf)
    place = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
    raise AssertionError(f"{what}: at {place} got {float(got[place])!r}, expected {float(expected[place])!r}")
